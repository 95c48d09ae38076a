"""Expressions of single elements: recognized by their values, or computed before the model runs."""
