"""Encoder and decoder of a folder, or a decoder with a cache, as one model with one budget."""
