"""Calibration by divergence: the threshold with the most similar distributions of quantized and original values.

Migacz, "8-bit inference with TensorRT", GTC 2017.
"""

from collections.abc import Callable

import numpy as np

from onnxopt.quantization.calibration.histogram import BINS, Histogram, Range

Divergence = Callable[[np.ndarray, np.ndarray], float]

MAGNITUDES = 128
"""Number of quantized magnitudes."""

_UNSEEN = 1e-9
"""Smallest share of a bin, for bins that are empty in one of two distributions."""


def _kullback_leibler(p: np.ndarray, q: np.ndarray) -> float:
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], _UNSEEN))))


def entropy(histogram: Histogram) -> Range:
    """Cover the symmetric threshold with the least Kullback-Leibler divergence after quantization."""
    return _closest(histogram, _kullback_leibler)


def symmetric_entropy(histogram: Histogram) -> Range:
    """Cover the symmetric threshold with the least sum of the Kullback-Leibler divergences in both directions."""
    return _closest(histogram, lambda p, q: _kullback_leibler(p, q) + _kullback_leibler(q, p))


def jensen_shannon(histogram: Histogram) -> Range:
    """Cover the symmetric threshold with the least mean divergence of both distributions from their mean."""

    def divergence(p: np.ndarray, q: np.ndarray) -> float:
        middle = (p + q) / 2
        return (_kullback_leibler(p, middle) + _kullback_leibler(q, middle)) / 2

    return _closest(histogram, divergence)


def _closest(histogram: Histogram, divergence: Divergence) -> Range:
    top = max(abs(histogram.low), abs(histogram.high))
    # Fewer values than bins do not define a distribution, so all are covered.
    if histogram.counts.sum() < BINS or top == 0:
        return Range.around_zero(histogram.low, histogram.high)
    bins = np.minimum((np.abs(histogram.centers) / top * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, weights=histogram.counts, minlength=BINS)
    limit = top * threshold(counts, divergence) / BINS
    return Range.around_zero(max(histogram.low, -limit), min(histogram.high, limit))


def threshold(counts: np.ndarray, divergence: Divergence = _kullback_leibler) -> int:
    """Return the number of bins of magnitudes to cover, given counts of shape (bins,)."""
    counts = counts.copy()
    # ReLU causes a spike at zero, which every threshold represents exactly; it would dominate the divergence.
    counts[0] = counts[1]
    ends = range(MAGNITUDES, len(counts) + 1, MAGNITUDES // 8)
    return min(ends, key=lambda end: divergence(*_before_and_after(counts, end)))


def _before_and_after(counts: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distribution clipped after `end` bins, and its quantized form, each with a sum of one."""
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    present = counts[:end] > 0
    group = (np.arange(end) * MAGNITUDES) // end
    sums = np.bincount(group, weights=counts[:end], minlength=MAGNITUDES)
    widths = np.bincount(group, weights=present, minlength=MAGNITUDES)
    spread = np.where(present, (sums / np.maximum(widths, 1))[group], 0.0)
    if not spread.sum():
        # No value is inside: the largest possible distance from the reference.
        spread[0] = 1.0
    return reference / max(reference.sum(), 1.0), spread / spread.sum()
