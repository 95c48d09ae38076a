"""Attention of many nodes: found, read and rewritten."""
