"""Limits of a search: its time, the part of it that is reserved for the proof, and the result that is enough."""
