"""Every tolerance of the test suite, by name, and how outputs are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np

EXACT_RELATIVE = 2e-5
"""Largest difference, relative to the largest output, that float32 reassociation may cause in models of ten layers."""

DEEP_RELATIVE = 1e-3
"""The same in real networks of up to a hundred layers, at the outputs that cancel most."""

FLOAT64_RELATIVE = 1e-9
"""The same that float64 arithmetic in another order may cause in sums of thousands of numbers."""

HALF_RELATIVE = 4e-3
"""The same for models that compute in 16-bit floats: eight units in the last place of float16."""

ROUNDING_SLACK = 1e-3
"""Share of half a quantization step that float32 arithmetic may add to a rounding error."""

INT8_SQNR_DB = 20.0
"""Least signal-to-noise ratio of a small well-behaved network in INT8: an error of a tenth of the output's RMS."""

CLIPPED_SQNR_DB = 3.0
"""The same when one value in a hundred is clipped on purpose: an error below the signal."""


def largest_difference(before: Sequence[Any], after: Sequence[Any]) -> float:
    """Return the largest difference of two lists of outputs relative to each output's largest magnitude.

    Whatever is no float must be equal, or the difference is infinite; NaN and infinities must stand in the same places.
    """
    if len(before) != len(after):
        return float("inf")
    return max((_difference(b, a) for b, a in zip(before, after, strict=True)), default=0.0)


def _difference(before: Any, after: Any) -> float:
    if isinstance(before, list):  # the maps of a ZipMap, one per sample
        if [m.keys() for m in before] != [m.keys() for m in after]:
            return float("inf")
        return largest_difference([np.array([*m.values()]) for m in before], [np.array([*m.values()]) for m in after])
    if before.shape != after.shape or before.dtype != after.dtype:
        return float("inf")
    if before.dtype.kind != "f":
        return 0.0 if np.array_equal(before, after) else float("inf")
    one, other = before.astype(np.float64), after.astype(np.float64)
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-6))


def sqnr_db(signal: np.ndarray, approximation: np.ndarray) -> float:
    """Return the signal-to-quantization-noise ratio in dB."""
    noise = float(np.square(signal.astype(np.float64) - approximation).sum())
    return float("inf") if not noise else 10 * np.log10(float(np.square(signal.astype(np.float64)).sum()) / noise)
