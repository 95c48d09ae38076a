"""The search: candidates, limits, trials, proof."""
