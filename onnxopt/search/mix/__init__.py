"""Techniques chosen per layer by an integer program."""
