"""Samples of a model made from files: read, stepped through the model where it keeps states, written, shown."""
