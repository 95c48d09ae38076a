"""Calibration methods: from the observed values of a tensor to its range."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from onnxopt.quantization.calibration.divergence import entropy, jensen_shannon, symmetric_entropy
from onnxopt.quantization.calibration.divergence_ort import stock_entropy
from onnxopt.quantization.calibration.histogram import LEVELS, Extremes, Histogram, Range


def minmax(extremes: Extremes) -> Range:
    """Cover all observed values."""
    return Range.around_zero(extremes.low, extremes.high)


def moving_average(extremes: Extremes) -> Range:
    """Cover the extremes of a typical run: the mean over runs of the smallest and of the largest value."""
    return Range.around_zero(extremes.mean_low, extremes.mean_high)


def percentile(histogram: Histogram, share: float = 99.99) -> Range:
    """Cover `share` percent of the values; leave out equally many on both sides."""
    total = histogram.counts.sum()
    tail = total * (1 - share / 100) / 2
    cumulative = np.cumsum(histogram.counts)
    edges = histogram.edges
    low = edges[int(np.searchsorted(cumulative, tail, side="right"))] if tail else histogram.low
    high = edges[min(int(np.searchsorted(cumulative, total - tail, side="left")) + 1, len(edges) - 1)]
    return Range.around_zero(float(low), float(high))


def mse(histogram: Histogram) -> Range:
    """Cover the interval with the least mean squared error of rounding and clipping together.

    Coordinate search over both ends, as in OCTAV (Sakr et al., "Optimal clipping and magnitude-aware
    differentiation", ICML 2022), but on the histogram and asymmetric.
    """
    centers, counts = histogram.centers, histogram.counts.astype(np.float64)
    full = Range.around_zero(histogram.low, histogram.high)

    def error(low: float, high: float) -> float:
        step = (high - low) / (LEVELS - 1)
        if step <= 0:
            return float(counts @ centers**2)
        inside = np.clip(np.round((centers - low) / step), 0, LEVELS - 1) * step + low
        # Within a bin the true value is uniform; at fine steps its rounding error would vanish at the centre.
        return float(counts @ (centers - inside) ** 2)

    low, high = full.low, full.high
    shares = np.linspace(1.0, 0.2, 81)
    for _ in range(2):
        high = min((full.high * s for s in shares), key=lambda h: error(low, h)) if full.high > 0 else full.high
        low = min((full.low * s for s in shares), key=lambda v: error(v, high)) if full.low < 0 else full.low
    return Range.around_zero(low, high)


FROM_EXTREMES: Mapping[str, Callable[[Extremes], Range]] = MappingProxyType(
    {"minmax": minmax, "moving-average": moving_average}
)
"""Methods that need only one sweep over the samples."""

METHODS: Mapping[str, Callable[[Histogram], Range]] = MappingProxyType(
    {
        **FROM_EXTREMES,
        "percentile": percentile,
        "entropy": entropy,
        "symmetric-entropy": symmetric_entropy,
        "jensen-shannon": jensen_shannon,
        "entropy-stock": stock_entropy,
        "mse": mse,
    }
)
"""Calibration methods by name."""
