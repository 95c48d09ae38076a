"""Accuracy recovered without training: statistics of activations, and least squares folded into the weights."""
