"""Tasks: the meaning of a model's outputs, their decoding, and the comparison of two models."""
