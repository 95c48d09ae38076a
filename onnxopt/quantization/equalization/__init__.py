"""Shift of scales and biases between layers, before and after quantization."""
