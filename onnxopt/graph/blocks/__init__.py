"""Residual blocks: found and removed."""
