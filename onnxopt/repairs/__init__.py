"""Faults of quantized files that make them slow or large, and how each is mended without data."""
