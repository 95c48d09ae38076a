"""Dynamic range of a tensor, and the few outliers that would ruin its quantization."""

from dataclasses import dataclass
from itertools import pairwise
from math import frexp

import numpy as np

_EXPONENTS, _SHIFT, _NO_NUMBER = 256, 23, 255
"""Of float32; the largest exponent stands for NaN and infinities, the smallest for zero and what is next to it."""
_LOOKED_AT = 1 << 16
"""Most values of one run that are sorted by magnitude: the extremes are known exactly anyway."""

_GAPS = ((12, 0.05), (7, 0.5))
"""Orders of two without any value from which on what is above them is called giant, and the share of the values below
that it takes: INT8 has eight orders, and most of a tensor may be a mask, but then far above all else."""
_TAIL, _TAIL_SHARE = 8, 0.99
"""INT8 tells nothing apart in that share of the values if the largest are so many orders of two above it."""
_LOUD = 16.0
"""Times the median sample's largest value from which on a sample is an outlier."""
_LEAST_RUNS = 5
UNBOUNDED = 2.0**60
"""No value that means a number is as large; masks are."""


@dataclass(frozen=True)
class Spread:
    """What was seen of a tensor besides its extremes.

    Attributes:
        octaves: how many of the values looked at have each exponent of float32, shape (256,).
        lows: smallest finite value of each run; `highs` the largest.
        infinite: how many values were infinite, over all runs.
        missing: how many were NaN.
    """

    octaves: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    infinite: int = 0
    missing: int = 0


def octaves_of(array: np.ndarray) -> np.ndarray:
    """Count the exponents of at most `_LOOKED_AT` values of a float32 array, evenly chosen; shape (256,)."""
    flat = array.ravel()
    # An odd step does not fall into step with rows and columns.
    some = np.ascontiguousarray(flat[:: max(flat.size // _LOOKED_AT, 1) | 1])
    return np.bincount((some.view(np.uint32) >> _SHIFT) & (_EXPONENTS - 1), minlength=_EXPONENTS)


def bulk_bound(octaves: np.ndarray, largest: float) -> float | None:
    """Return the magnitude below which all but giants are; None where there are no giants.

    Args:
        octaves: from `octaves_of`.
        largest: magnitude of the values.
    """
    counts = octaves.copy()
    counts[[0, _NO_NUMBER]] = 0
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
    """Return the extremes over all samples but outliers; None where no sample is one."""
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
