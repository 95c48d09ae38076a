"""Ranges of activations, streamed: one batch of activations is alive at a time, whatever the number of samples.

Two sweeps over the samples: the first finds the extremes, the second fills one histogram of fixed size per tensor.
Every calibration method then works on the histogram alone, so trying another method costs no further run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import onnxruntime

from onnxopt.errors import DataError, ModelError, NativeError, first_line
from onnxopt.graph.shapes import with_types
from onnxopt.model_file import materialize
from onnxopt.samples import Samples

BINS = 2048
LEVELS = 256


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of one tensor in `BINS` equal bins over [low, high]."""

    low: float
    high: float
    counts: np.ndarray

    @property
    def centers(self) -> np.ndarray:
        """Middle of each bin, shape (BINS,)."""
        step = (self.high - self.low) / len(self.counts)
        return self.low + step * (np.arange(len(self.counts)) + 0.5)


@dataclass(frozen=True)
class Range:
    """The interval that the integer grid covers; it contains zero, so that zero is exact."""

    low: float
    high: float


def collect(model: ir.Model, names: Sequence[str], samples: Samples) -> dict[str, Histogram]:
    """Return the histogram of every float tensor in `names` over `samples`.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 a run failed.
        DataError: ONX207 a tensor became NaN or infinite.
    """
    session, watched = _open(model, names)
    if not watched:
        return {}
    lows, highs = dict.fromkeys(watched, np.inf), dict.fromkeys(watched, -np.inf)
    for name, array in _activations(session, watched, samples):
        low, high = float(array.min()), float(array.max())
        lows[name], highs[name] = min(lows[name], low), max(highs[name], high)
        if not np.isfinite(low + high):
            raise DataError(
                "ONX207",
                "an activation is NaN or infinite for these samples",
                where=name,
                hint="Check that the samples are preprocessed as the model expects.",
            )
    seen = [name for name in watched if lows[name] <= highs[name]]
    counts = {name: np.zeros(BINS, np.int64) for name in seen}
    for name, array in _activations(session, seen, samples):
        width = highs[name] - lows[name]
        scale = BINS / width if width > 0 else 0.0
        bins = ((array.ravel() - np.float32(lows[name])) * np.float32(scale)).astype(np.int32)
        counts[name] += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
    return {name: Histogram(lows[name], highs[name], counts[name]) for name in seen}


def _open(model: ir.Model, names: Sequence[str]) -> tuple[onnxruntime.InferenceSession, list[str]]:
    watching = with_types(model)
    wanted = set(names)
    outputs = {v.name for v in watching.graph.outputs}
    inputs = [v.name for v in watching.graph.inputs if v.name in wanted]
    for node in watching.graph:
        for value in node.outputs:
            if value.name in wanted and value.name not in outputs and value.dtype is ir.DataType.FLOAT:
                watching.graph.outputs.append(value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        with materialize(watching) as source:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise ModelError("ONX304", "ONNX Runtime cannot calibrate the model", why=first_line(error)) from error
    given = {o.name for o in (*session.get_outputs(), *session.get_inputs()) if o.type == "tensor(float)"}
    order = [*inputs, *(o.name for o in session.get_outputs())]
    return session, [name for name in order if name in given and name in wanted]


def _activations(
    session: onnxruntime.InferenceSession, names: Sequence[str], samples: Samples
) -> Iterator[tuple[str, np.ndarray]]:
    fed = {i.name for i in session.get_inputs()}
    fetched = [name for name in names if name not in fed]
    for position, feeds in enumerate(samples):
        try:
            arrays = session.run(fetched, dict(feeds)) if fetched else []
        except Exception as error:  # see above
            if position == 0 and samples.batch_size > 1:
                # Some models declare a dynamic batch and only run at 1.
                yield from _activations(session, names, samples.with_batch_size(1))
                return
            raise NativeError("ONX401", "ONNX Runtime failed while calibrating", why=first_line(error)) from error
        for name in names:
            if name in fed and feeds[name].size:
                yield name, feeds[name]
        for name, array in zip(fetched, arrays, strict=True):
            if array.size:
                yield name, array


def minmax(histogram: Histogram) -> Range:
    """Cover everything that was seen."""
    return _with_zero(histogram.low, histogram.high)


def percentile(histogram: Histogram, share: float = 99.99) -> Range:
    """Cover `share` percent, leaving out the same number of values on both sides."""
    total = histogram.counts.sum()
    tail = total * (1 - share / 100) / 2
    cumulative = np.cumsum(histogram.counts)
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    low = edges[int(np.searchsorted(cumulative, tail, side="right"))] if tail else histogram.low
    high = edges[min(int(np.searchsorted(cumulative, total - tail, side="left")) + 1, len(edges) - 1)]
    return _with_zero(float(low), float(high))


def mse(histogram: Histogram) -> Range:
    """Cover the interval with the least mean squared error of rounding and clipping together.

    Coordinate search over both ends, as in OCTAV (Sakr et al., "Optimal clipping and magnitude-aware
    differentiation", ICML 2022), but on the histogram and asymmetric.
    """
    centers, counts = histogram.centers, histogram.counts.astype(np.float64)
    full = _with_zero(histogram.low, histogram.high)

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
    return _with_zero(low, high)


def entropy(histogram: Histogram, levels: int = 128) -> Range:
    """Cover the symmetric threshold with the least Kullback-Leibler divergence after quantization.

    Migacz, "8-bit inference with TensorRT", GTC 2017; on |x|, with `levels` quantized magnitudes. Fewer values than
    bins are no distribution to compare, and are all covered.
    """
    if histogram.counts.sum() < BINS:
        return minmax(histogram)
    magnitudes = np.abs(histogram.centers)
    top = max(abs(histogram.low), abs(histogram.high))
    if top == 0:
        return Range(0.0, 0.0)
    bins = np.minimum((magnitudes / top * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, weights=histogram.counts, minlength=BINS)
    # ReLU puts a spike at zero, which every threshold represents exactly; left in, it would decide alone.
    counts[0] = counts[1]
    ends = range(levels, BINS + 1, levels // 8)
    best = min(ends, key=lambda end: _divergence(counts, end, levels))
    limit = top * best / BINS
    return _with_zero(max(histogram.low, -limit), min(histogram.high, limit))


def _divergence(counts: np.ndarray, end: int, levels: int) -> float:
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    present = counts[:end] > 0
    group = (np.arange(end) * levels) // end
    sums = np.bincount(group, weights=counts[:end], minlength=levels)
    widths = np.bincount(group, weights=present, minlength=levels)
    spread = np.where(present, (sums / np.maximum(widths, 1))[group], 0.0)
    if not spread.sum() or not reference.sum():
        return float("inf")
    p, q = reference / reference.sum(), spread / spread.sum()
    # A bin the quantized distribution cannot represent costs as if it held a tiny share.
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], 1e-9))))


def _with_zero(low: float, high: float) -> Range:
    return Range(min(float(low), 0.0), max(float(high), 0.0))


METHODS: Mapping[str, Callable[[Histogram], Range]] = MappingProxyType(
    {"minmax": minmax, "percentile": percentile, "entropy": entropy, "mse": mse}
)
"""Calibration methods by name."""
