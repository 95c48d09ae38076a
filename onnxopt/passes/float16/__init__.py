"""Passes to float16: of the whole computation, or of stored weights."""
