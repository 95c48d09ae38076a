"""Metrics of class scores and numbers, and metrics written by users."""
