"""Entropy calibration with exactly ONNX Runtime's thresholds, from a histogram of fixed size.

It serves as a comparison: it counts ReLU's spike at zero and therefore clips activations too much.
"""

import numpy as np

from onnxopt.quantization.calibration.histogram import BINS, Histogram, Range

QUANTIZED_BINS = 128


def stock_entropy(histogram: Histogram) -> Range:
    """Cover the two-sided threshold that ONNX Runtime's entropy calibrator chooses."""
    top = max(abs(histogram.low), abs(histogram.high))
    if top == 0:
        return Range(0.0, 0.0)
    edges = np.linspace(-top, top, BINS + 1)
    counts, _ = np.histogram(histogram.centers, edges, weights=histogram.counts)
    first, last = threshold(counts.astype(np.int64))
    return Range.around_zero(max(edges[first], histogram.low), min(edges[last], histogram.high))


def threshold(counts: np.ndarray, levels: int = QUANTIZED_BINS) -> tuple[int, int]:
    """Return the indices of the two edges to clip at; counts, shape (bins,), are symmetric about zero."""
    middle = len(counts) // 2
    candidates = [(middle - i, min(middle + i + 1, len(counts))) for i in range(levels // 2, middle + 1)]
    return min(candidates, key=lambda c: _divergence(counts, c[0], c[1], levels))


def _divergence(counts: np.ndarray, first: int, last: int, levels: int) -> float:
    inside = counts[first:last]
    before = inside.copy()
    before[0] += counts[:first].sum()
    before[-1] += counts[last:].sum()
    merged = len(inside) // levels
    whole = merged * levels
    sums = inside[:whole].reshape(levels, merged).sum(1)
    sums[-1] += inside[whole:].sum()
    present = np.count_nonzero(before[:whole].reshape(levels, merged), axis=1)
    after = np.zeros_like(before)
    # Whole counts, and none in the remaining bins, as in the original.
    after[:whole] = np.repeat(np.where(present > 0, sums // np.maximum(present, 1), 0), merged)
    p, q = _smoothed(before), _smoothed(after)
    if p is None or q is None:
        return float("inf")
    return float(np.sum(p * np.log(p / q)))


def _smoothed(counts: np.ndarray, share: float = 1e-4) -> np.ndarray | None:
    """Return a distribution in which empty bins get a little of the others; None if the others have too little."""
    empty = counts == 0
    zeros = int(np.count_nonzero(empty))
    taken = share * zeros / max(counts.size - zeros, 1)
    if empty.all() or taken >= 1:
        return None
    # In float32, because candidates are so close that the precision decides between them.
    smoothed = counts.astype(np.float32)
    smoothed += np.where(empty, share, -taken)
    return np.asarray(smoothed / smoothed.sum())
