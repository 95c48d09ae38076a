"""Rounding of weights to integers."""
