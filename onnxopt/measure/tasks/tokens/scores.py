"""Log-probabilities of tokens, a few steps at a time."""

from collections.abc import Iterator

import numpy as np
from scipy import special

from onnxopt.samples.core import Array

MOST_NATS = 100.0
"""Divergence of a token with probability 0 or NaN in the candidate."""

_CHUNK = 1 << 22


def chunks(steps: int, classes: int) -> Iterator[slice]:
    """Yield parts of a sequence whose float64 copies of scores take less than 32 MB."""
    some = max(1, _CHUNK // max(classes, 1))
    for start in range(0, steps, some):
        yield slice(start, start + some)


def log_probabilities(scores: Array, probabilities: bool) -> Array:
    """Return log-probabilities of `(steps, classes)` logits, log-probabilities, or probabilities."""
    values = np.asarray(scores, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(np.maximum(values, 0)) if probabilities else np.asarray(special.log_softmax(values, axis=-1))


def divergence(one: Array, other: Array) -> Array:
    """Return the KL divergence of each step in nats, at most `MOST_NATS`, from log-probabilities `(steps, classes)`."""
    with np.errstate(invalid="ignore", over="ignore"):
        terms = np.where(one > -np.inf, np.exp(one) * (one - other), 0.0)
    return np.asarray(np.nan_to_num(terms.sum(axis=1), nan=MOST_NATS).clip(0.0, MOST_NATS))


def negative_log_likelihood(log_shares: Array, targets: Array) -> Array:
    """Return the negative log-likelihood of each target in nats, at most `MOST_NATS`."""
    picked = -np.take_along_axis(log_shares, targets[:, None], axis=1)[:, 0]
    return np.asarray(np.nan_to_num(picked, nan=MOST_NATS).clip(0.0, MOST_NATS))
