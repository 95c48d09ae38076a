"""Decoders measured while they generate."""
