"""Ranges of activations from samples."""
