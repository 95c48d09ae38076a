"""Attention that exporters wrote as many nodes: find it, read it and rewrite it."""
