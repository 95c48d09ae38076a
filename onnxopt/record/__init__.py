"""The contents of run.json, and how measurements become it."""
