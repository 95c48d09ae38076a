"""Decoders while they generate: time, perplexity and memory."""
