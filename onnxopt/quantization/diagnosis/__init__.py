"""Diagnosis of the precision loss of quantized models."""
