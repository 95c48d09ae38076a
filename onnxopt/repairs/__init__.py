"""Faults that make quantized files slow or large, and their repair without data."""
