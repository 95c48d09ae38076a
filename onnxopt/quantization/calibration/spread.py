"""Dynamic range of a tensor, and outliers that would spoil its quantization."""

from dataclasses import dataclass
from itertools import pairwise
from math import frexp

import numpy as np

EXPONENTS, _SHIFT, _NO_NUMBER = 256, 23, 255
"""Exponents of float32; the largest is for NaN and infinities, the smallest for zero and denormals."""
_LOOKED_AT = 1 << 16
"""Most values of one run that are counted by magnitude; the extremes are exact in any case."""

_GAPS = ((12, 0.05), (7, 0.5))
"""Empty powers of two that separate giants from other values, and the smallest share of values below: INT8 covers eight
powers, and most of a tensor may be a mask, but then far above all other values.
"""
_TAIL, _TAIL_SHARE = 8, 0.99
"""Powers of two from a share of the values to the largest at which INT8 no longer distinguishes that share."""
_LOUD = 16.0
"""Ratio of a sample's largest value to the median sample's above which the sample is an outlier."""
_LEAST_RUNS = 5
UNBOUNDED = 2.0**60
"""Smallest magnitude of masks; real activations are smaller."""


@dataclass(frozen=True)
class Spread:
    """Statistics of a tensor besides its extremes.

    Attributes:
        octaves: number of counted values per exponent of float32, shape (256,).
        lows: smallest finite value of each run; `highs` the largest.
        infinite: number of infinite values, over all runs.
        missing: number of NaN, over all runs.
    """

    octaves: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    infinite: int = 0
    missing: int = 0


def octaves_of(array: np.ndarray) -> np.ndarray:
    """Count the exponents of at most `_LOOKED_AT` values of a float32 array, evenly chosen; shape (256,)."""
    flat = array.ravel()
    # An odd step is not aligned with rows and columns.
    some = np.ascontiguousarray(flat[:: max(flat.size // _LOOKED_AT, 1) | 1])
    return np.bincount((some.view(np.uint32) >> _SHIFT) & (EXPONENTS - 1), minlength=EXPONENTS)


def bulk_bound(octaves: np.ndarray, largest: float) -> float | None:
    """Return the magnitude that separates giants from all other values; None without giants.

    Args:
        octaves: counts from `octaves_of`.
        largest: largest magnitude.
    """
    counts = octaves.copy()
    counts[0] = counts[_NO_NUMBER] = 0
    total = int(counts.sum())
    if not total or not largest:
        return None
    top = frexp(largest)[1] + 126
    seen = [int(e) for e in np.flatnonzero(counts) if e < top]
    below = np.cumsum(counts)
    for lower, upper in reversed(list(pairwise([*seen, top]))):
        if any(upper - lower > gap and below[lower] >= share * total for gap, share in _GAPS):
            return _above(lower)
    quantile = int(np.searchsorted(below, _TAIL_SHARE * total))
    return _above(quantile) if top - quantile >= _TAIL else None


def quiet_interval(spread: Spread) -> tuple[float, float] | None:
    """Return the extremes over all samples except outliers; None without outliers."""
    if len(spread.lows) < _LEAST_RUNS:
        return None
    sizes = np.maximum(np.abs(spread.lows), np.abs(spread.highs))
    loud = sizes > _LOUD * np.median(sizes)
    if not loud.any() or not sizes[~loud].any():
        return None
    return float(spread.lows[~loud].min()), float(spread.highs[~loud].max())


def _above(exponent: int) -> float:
    """Return the smallest power of two above all floats with a biased exponent."""
    return float(2.0 ** (exponent - 126))
