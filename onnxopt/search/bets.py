"""Which candidate to try first: the expected gain for each second that it takes to build, score and time it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, prod, sqrt
from types import MappingProxyType

import onnx_ir as ir

from onnxopt.graph.layers import Layer, anatomy_of
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.samples import Feeds
from onnxopt.search.trial import Candidate
from onnxopt.target import Target

_STATIC, _DYNAMIC, _WEIGHTS, _FLOAT = "static", "dynamic", "weights", "float"

SPEED: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        _STATIC: {"convolution": 2.8, "narrow": 1.2, "depthwise": 0.9, "product": 2.3, "row": 1.8},
        _DYNAMIC: {"product": 2.8, "row": 2.0, "LSTM": 2.0},
        _WEIGHTS: {"row": 4.0, "product": 0.5},
        _FLOAT: {},
    }
)
"""Times faster by kind of layer where there are 8-bit dot products (ResNet-50, MobileNetV2, ViT-B/16); 1 elsewhere."""

_INSIDE: Mapping[str, float] = MappingProxyType({_STATIC: 0.7, _DYNAMIC: 0.85, _WEIGHTS: 0.7, _FLOAT: 1.0})
"""Probability of being inside a budget of one point."""

_REST = 0.05
"""Share of the time in no layer at all."""
_FUSED = 1.02
"""Times faster by simplification alone."""
_NARROW = 16
"""Channels that fill one vector register."""
_SAMPLES = 128
"""Most calibration samples; each is run by a sweep that fetches all inner values."""
_SWEEP = 3.0
"""Times a plain run that such a run takes."""
_BYTES_PER_S = 2e7
"""Of a model that is built, checked, loaded and timed."""
_LEAST_S = 1.0
_ROWS = 0.5
"""Share of the multiply-accumulates in products of a single row from which weights of four bits are tried."""
_UNCACHED_BYTES = 8_000_000
"""Of a model whose weights are read from memory in every run."""

_BAR = "|"

WORTH = 1.05
"""Expected gain from which a candidate is a bet; others are tried after everything that follows from the bets."""


@dataclass(frozen=True)
class Workload:
    """Where the time of a model is, and how long candidates take.

    Attributes:
        shares: of the multiply-accumulates, by kind of layer as in `SPEED`; the rest is of no such kind.
        size_bytes: of the model.
        sample_s: seconds that one sample takes the baseline.
        calibration: samples.
        searched: samples.
        dot_products: whether the processor has 8-bit dot products.
    """

    shares: Mapping[str, float]
    size_bytes: int
    sample_s: float
    calibration: int
    searched: int
    dot_products: bool

    def gain(self, candidate: Candidate) -> float:
        """Return how many times faster than the original a candidate is expected to be."""
        speeds = SPEED[kind_of(candidate)]
        left = max(1 - sum(self.shares.values()), 0.0)
        time = left + sum(share / self._speed(speeds.get(kind, 1.0)) for kind, share in self.shares.items())
        return _FUSED / (_REST + (1 - _REST) * time)

    def _speed(self, speed: float) -> float:
        return speed if self.dot_products or speed < 1 else sqrt(speed)

    def seconds(self, candidate: Candidate) -> float:
        """Return about how many seconds a candidate takes."""
        sweeps = 0.0
        for spec in candidate.passes:
            if isinstance(spec, QuantizeStatic):
                sweeps = 1.0 if spec.method in ("minmax", "moving-average") else 2.0
        calibrated_s = sweeps * _SWEEP * min(self.calibration, _SAMPLES) * self.sample_s
        scored_s = self.searched * self.sample_s / max(self.gain(candidate), 0.1)
        return _LEAST_S + self.size_bytes / _BYTES_PER_S + calibrated_s + scored_s


def kind_of(candidate: Candidate) -> str:
    """Return what a candidate does to its layers, a key of `SPEED`."""
    kinds = {QuantizeStatic: _STATIC, QuantizeDynamic: _DYNAMIC, QuantizeWeights: _WEIGHTS}
    return next((kinds[type(spec)] for spec in candidate.passes if type(spec) in kinds), _FLOAT)


def reads_rows(work: Workload) -> bool:
    """Return whether most of the time is that of products of single rows with weights that no cache holds."""
    return work.shares.get("row", 0.0) >= _ROWS and work.size_bytes >= _UNCACHED_BYTES


def work_of(
    model: ir.Model,
    feeds: Feeds,
    *,
    size_bytes: int,
    sample_s: float,
    calibration: int,
    searched: int,
    target: Target,
) -> Workload:
    """Return where the time of a model is at the shapes of `feeds`."""
    sizes = dict[str, int]()
    for value in model.graph.inputs:
        fed = feeds.get(value.name or "")
        for dim, side in zip(value.shape or (), () if fed is None else fed.shape, strict=False):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                sizes[str(dim.value)] = int(side)
    found = anatomy_of(model, sizes)
    shares = dict[str, float]()
    for layer in found.layers:
        kind = _kind(layer)
        if kind and layer.macs and found.macs:
            shares[kind] = shares.get(kind, 0.0) + layer.macs / found.macs
    dot_products = target.name not in ("x86-avx2", "x86-avx512", "arm64-neon")
    return Workload(shares, size_bytes, sample_s, calibration, searched, dot_products)


def _kind(layer: Layer) -> str:
    shape, given = layer.weight_shape or (), layer.output_shape or ()
    if layer.op_type == "Conv" and len(shape) > 2:
        if shape[1] == 1 and shape[0] > 1:
            return "depthwise"
        return "convolution" if min(shape[:2]) >= _NARROW else "narrow"
    if layer.op_type in ("MatMul", "Gemm"):
        return "row" if prod(given[:-1]) == 1 else "product"
    return layer.op_type if layer.op_type == "LSTM" else ""


@dataclass(frozen=True)
class Plan:
    """Candidates in three parts.

    Attributes:
        bets: by expected gain for each second, one of each kind.
        alike: that differ from a bet in little, in the same order.
        late: that are not expected to gain anything.
    """

    bets: tuple[Candidate, ...]
    alike: tuple[Candidate, ...]
    late: tuple[Candidate, ...]

    @property
    def all(self) -> tuple[Candidate, ...]:
        """All in the order in which they are tried where time is short."""
        return (*self.bets, *self.alike, *self.late)

    def words(self) -> list[str]:
        """Return the names in order, with a bar between the parts."""
        parts = ([c.name for c in part] for part in (self.bets, self.alike, self.late))
        return [name for part in parts for name in (*part, _BAR)]

    def ordered(self, words: Sequence[str]) -> "Plan":
        """Return the same candidates in the order of `words`; as they are where those are of others."""
        known = {c.name: c for c in self.all}
        if sorted(words) != sorted(self.words()):
            return self
        parts = [list[Candidate]()]
        for word in words:
            if word == _BAR:
                parts.append([])
            else:
                parts[-1].append(known[word])
        return Plan(*map(tuple, parts[:3]))


def plan_of(candidates: Sequence[Candidate], work: Workload | None) -> Plan:
    """Return in which order to try candidates; without `work`, as they are given.

    Of those that do the same to the layers, such as calibrations of one graph, the best for each second is a bet.
    """
    if work is None:
        return Plan(tuple(candidates), (), ())

    def value(candidate: Candidate) -> float:
        kind = kind_of(candidate)
        return _INSIDE[kind] * log(work.gain(candidate)) / work.seconds(candidate)

    ordered = sorted(candidates, key=value, reverse=True)
    bets, alike, late, seen = list[Candidate](), list[Candidate](), list[Candidate](), set[str]()
    for candidate in ordered:
        if work.gain(candidate) < WORTH:
            late.append(candidate)
        elif kind_of(candidate) in seen:
            alike.append(candidate)
        else:
            bets.append(candidate)
        seen.add(kind_of(candidate))
    if not bets:
        return Plan(tuple(ordered), (), ())
    return Plan(tuple(bets), tuple(alike), tuple(late))
