"""Structured pruning: choice of units, compensation, and the proof that nothing else changed."""
