"""The best INT8 form of one model."""
