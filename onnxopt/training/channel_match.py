"""Channels of the original that a narrower value still has, matched by their activations."""

from dataclasses import dataclass

import numpy as np

LEAST_CORRELATION = 0.5
"""Mean over the channels below which two values have no channels in common."""
_MOST_ROWS = 4096


@dataclass(frozen=True)
class Match:
    """Positions along one axis of the original's value, in order; all of them where `kept` is None."""

    axis: int = 0
    kept: np.ndarray | None = None

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return those channels of a value of the original."""
        return array if self.kept is None else np.take(array, self.kept, self.axis)


def match(narrow: np.ndarray, wide: np.ndarray) -> Match | None:
    """Return the channels of `wide` that those of `narrow` are; None where the values do not go together.

    Pruning keeps the order of channels, so the choice is the increasing one with the largest sum of correlations.
    """
    if narrow.shape == wide.shape:
        return Match()
    if narrow.ndim != wide.ndim or narrow.ndim < 2:
        return None
    axes = [i for i, (a, b) in enumerate(zip(narrow.shape, wide.shape, strict=True)) if a != b]
    if len(axes) != 1 or axes[0] == 0 or narrow.shape[axes[0]] > wide.shape[axes[0]]:
        return None
    one, other = (_standardized(array, axes[0]) for array in (narrow, wide))
    correlation = one.T @ other / len(one)
    kept = _increasing(correlation)
    if correlation[np.arange(len(kept)), kept].mean() < LEAST_CORRELATION:
        return None
    return Match(axes[0], kept)


def _standardized(array: np.ndarray, axis: int) -> np.ndarray:
    rows = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]).astype(np.float64)
    rows = rows[:: max(1, len(rows) // _MOST_ROWS)]
    rows = rows - rows.mean(0)
    return np.asarray(rows / np.maximum(rows.std(0), 1e-12))


def _increasing(gain: np.ndarray) -> np.ndarray:
    """Return one column per row, increasing, with the largest sum: by dynamic programming."""
    rows, columns = gain.shape
    best = np.zeros(columns + 1)
    taken = np.zeros((rows, columns), bool)
    for row in range(rows):
        now = np.full(columns + 1, -np.inf)
        for column in range(row, columns):
            with_it = best[column] + gain[row, column]
            taken[row, column] = with_it > now[column]
            now[column + 1] = max(with_it, now[column])
        best = now
    kept, column = np.zeros(rows, np.int64), columns - 1
    for row in range(rows - 1, -1, -1):
        while not taken[row, column]:
            column -= 1
        kept[row] = column
        column -= 1
    return kept
