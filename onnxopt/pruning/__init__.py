"""Structured pruning: which units go, what is made up for, and the proof that nothing else changed."""
