"""Metrics of class scores and numbers, and those that users write."""
