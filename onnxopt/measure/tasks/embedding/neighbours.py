"""Nearest neighbours by cosine among the samples themselves."""

from collections.abc import Iterator, Sequence

import numpy as np

from onnxopt.samples.core import Array

_BLOCK = 1 << 22
"""Most similarities in memory: 32 MB of float64."""

TIE = 1e-6
"""Largest difference of cosines of equally near neighbours, such as two copies of a text."""


def unit(vectors: Array) -> Array:
    """Return vectors `(n, width)` of length 1; zero vectors and those with NaN become zeros, without neighbours."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scaled: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled[~np.isfinite(scaled).all(axis=1)] = 0
    return scaled


def nearest_rows(queries: Array, index: Array, k: int) -> Array:
    """Return the `k` nearest of `index` for each query, nearest first, without the same row; `(n, k)`.

    Both are unit vectors.
    """
    return np.concatenate([_best(similar, k) for similar in _similarities(queries, index)])


def kept_neighbours(before: Array, after: Array, numbers: Sequence[int]) -> dict[int, Array]:
    """Return the share of each sample's `k` nearest neighbours that a candidate finds among the baseline's vectors.

    A neighbour counts as found if it is as near as the baseline's, up to rounding: equally near ones are exchangeable.

    Args:
        before: the baseline's unit vectors `(n, width)`.
        after: the candidate's unit vectors.
        numbers: the values of `k`, below the number of samples.
    """
    shares: dict[int, list[Array]] = {k: [] for k in numbers}
    if not shares:
        return {}
    both = zip(_similarities(before, before), _similarities(after, before), strict=True)
    for own, other in both:
        found = _best(other, max(numbers))
        reached = np.take_along_axis(own, found, axis=1)
        limits = -np.sort(np.partition(-own, max(numbers) - 1, axis=1)[:, : max(numbers)], axis=1)
        for k, parts in shares.items():
            parts.append((reached[:, :k] >= limits[:, k - 1 : k] - TIE).mean(axis=1))
    return {k: np.concatenate(parts) for k, parts in shares.items()}


def _similarities(queries: Array, index: Array) -> Iterator[Array]:
    """Yield the similarities of blocks of queries with all of `index`, -inf with themselves, `_BLOCK` at most."""
    some = max(1, _BLOCK // max(len(index), 1))
    for start in range(0, len(queries), some):
        similar = queries[start : start + some] @ index.T
        rows = np.arange(len(similar))
        similar[rows, start + rows] = -np.inf
        yield similar


def _best(similar: Array, k: int) -> Array:
    some = np.argpartition(-similar, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similar, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
