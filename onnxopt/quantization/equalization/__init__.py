"""Scales and biases moved between layers before and after quantization."""
