"""The range of every activation of a model by one method, and the ranges that a few values spoil."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.model_file.memory import IN_MEMORY_BYTES, weight_bytes
from onnxopt.pipeline import Observations
from onnxopt.quantization.calibration import calibrators, ranges
from onnxopt.quantization.calibration.data_quality import range_weaknesses, require_variety
from onnxopt.quantization.calibration.flat_ends import without_flat_ends
from onnxopt.quantization.calibration.histogram import LEVELS, Extremes, Histogram, Range
from onnxopt.quantization.calibration.ranges import Watch
from onnxopt.quantization.calibration.spread import bulk_bound, quiet_interval
from onnxopt.samples import Samples

_NARROWER = 4.0
"""Smallest ratio of the full to the clipped range for the clipped one to be tried."""
_PROBABILITIES = ("Sigmoid", "HardSigmoid", "Softmax")
_LIKELY = 0.5
"""A probability with an observed value of this size may become 1."""


@dataclass(frozen=True)
class Calibration:
    """Ranges by name of the tensor.

    Attributes:
        extremes: the smallest and largest finite values, and the spread of values.
        ranges: ranges by the method.
        without_giants: the range of the other values, for tensors with a few values far above all others.
        without_loud: the range over the other samples, for tensors with outliers among the samples.
        findings: weaknesses of the ranges, in words.
        watch: the float model, whose session is open where it was just run; None where that would hold large weights.
    """

    extremes: Mapping[str, Extremes]
    ranges: Mapping[str, Range]
    without_giants: Mapping[str, Range]
    without_loud: Mapping[str, Range]
    findings: tuple[str, ...]
    watch: Watch | None = None


def calibrate(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    *,
    method: str,
    percentile: float,
    cache: Observations,
    typed: bool = False,
    levels: int = LEVELS,
) -> Calibration:
    """Return the ranges of `names`; statistics of the same model in `cache` are reused.

    Args:
        model: the model.
        names: names of tensors.
        samples: samples to run it on.
        method: calibration method.
        percentile: share of values inside the range with `method=percentile`, in percent.
        cache: holds the statistics of earlier calls.
        typed: whether types of values are known in `model`.
        levels: number of levels of a range.

    Raises:
        ModelError: ONX304 the model cannot be loaded.
        NativeError: ONX401 a run failed.
        DataError: ONX205 no input varies over the samples.
    """
    # Other methods and exclusions on the same model need the same histograms: the search tries many.
    watch = Watch(model, names, typed=typed)
    key = watch.digest(), len(samples), tuple(sorted(names))
    found = cache.once("extremes", key, lambda: ranges.extremes(model, names, samples, watch=watch))
    inputs = [value.name or "" for value in model.graph.inputs]
    require_variety(found, inputs, samples.name)
    # A rare score is not an outlier.
    likely = {v.name for n in model.graph if n.op_type in _PROBABILITIES for v in n.outputs}
    open_ended = {n: e for n, e in found.items() if n not in likely}
    giants = {n: e for n, e in ((n, _below_giants(e)) for n, e in open_ended.items()) if e is not None}
    loud = {n: e for n, e in ((n, _quiet(e)) for n, e in open_ended.items() if n not in giants) if e is not None}
    trimmed = giants | loud
    of_extremes = method in calibrators.FROM_EXTREMES
    needed = trimmed if of_extremes else {**found, **trimmed}
    histograms = cache.once(
        "histograms",
        (*key, of_extremes),
        lambda: ranges.histograms(model, samples, needed, watch=watch) if needed else {},
    )
    if of_extremes:
        full = {name: calibrators.FROM_EXTREMES[method](e) for name, e in found.items()}
        clipped = {name: _tight(h) for name, h in histograms.items()}
    else:
        by_method = {name: _by_method(h, method, percentile) for name, h in histograms.items()}
        full = {**by_method, **{name: calibrators.minmax(found[name]) for name in trimmed}}
        clipped = {name: by_method[name] for name in trimmed}
    full |= {} if method == "minmax" else _probabilities(model, full, found)
    full, clipped = (without_flat_ends(model, some, levels) for some in (full, clipped))
    clipped = {n: r for n, r in clipped.items() if _NARROWER * (r.high - r.low) < full[n].high - full[n].low}
    return Calibration(
        found,
        full,
        {n: r for n, r in clipped.items() if n in giants},
        {n: r for n, r in clipped.items() if n in loud},
        (*range_weaknesses(found, inputs, len(samples)), *_missing(names, found)),
        watch if weight_bytes(model) <= IN_MEMORY_BYTES else None,
    )


def _by_method(histogram: Histogram, method: str, percentile: float) -> Range:
    if not histogram.counts.any():
        return calibrators.minmax(histogram)
    if method == "percentile":
        return calibrators.percentile(histogram, percentile)
    return calibrators.METHODS[method](histogram)


def _below_giants(extremes: Extremes) -> Extremes | None:
    if extremes.spread is None:
        return None
    bound = bulk_bound(extremes.spread.octaves, extremes.magnitude)
    return None if bound is None else _within(extremes, -bound, bound)


def _quiet(extremes: Extremes) -> Extremes | None:
    interval = None if extremes.spread is None else quiet_interval(extremes.spread)
    return None if interval is None else _within(extremes, *interval)


def _within(extremes: Extremes, low: float, high: float) -> Extremes:
    ends = max(extremes.low, low), min(extremes.high, high)
    return Extremes(*ends, *ends, spread=extremes.spread)


def _tight(histogram: Histogram) -> Range:
    filled = np.flatnonzero(histogram.counts)
    if not len(filled):
        return calibrators.minmax(histogram)
    return Range.around_zero(histogram.edges[filled[0]], histogram.edges[filled[-1] + 1])


def _probabilities(model: ir.Model, known: Mapping[str, Range], found: Mapping[str, Extremes]) -> dict[str, Range]:
    """Return ranges of probabilities that clip no rare high score."""
    names = [n.outputs[0].name or "" for n in model.graph if n.op_type in _PROBABILITIES and not n.domain]
    seen = {name: found[name].high for name in names if name in known}
    return {name: Range(0.0, 1.0 if high >= _LIKELY else max(high, known[name].high)) for name, high in seen.items()}


def _missing(names: Sequence[str], found: Mapping[str, Extremes]) -> list[str]:
    """Return one sentence about NaN, which spreads: it names the first tensor with NaN."""
    spreads = ((name, found[name].spread) for name in names if name in found)
    missing = {name: spread.missing for name, spread in spreads if spread is not None and spread.missing}
    if not missing:
        return []
    first, others = next(iter(missing)), len(missing) - 1
    behind = f", and of {others} further {'tensor' if others == 1 else 'tensors'}" if others else ""
    return [f"{missing[first]} values of {first}{behind} are NaN for these samples: left out of the ranges"]
