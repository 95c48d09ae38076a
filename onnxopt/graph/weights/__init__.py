"""Weights as stored: sparse, masked, quantized, computed."""
