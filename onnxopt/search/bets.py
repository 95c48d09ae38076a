"""The order of candidates: by expected gain per second of building, scoring and timing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, prod, sqrt
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
"""Speed-up by kind of layer with 8-bit dot products (ResNet-50, MobileNetV2, ViT-B/16); 1 for all others."""

_INSIDE: Mapping[str, float] = MappingProxyType({_STATIC: 0.7, _DYNAMIC: 0.85, _WEIGHTS: 0.7, _FLOAT: 1.0})
"""Probability of being within a budget of one point."""

_REST = 0.05
"""Share of the time outside layers."""
_FUSED = 1.02
"""Speed-up by simplification alone."""
_NARROW = 16
"""Number of channels in a vector register."""
_SAMPLES = 128
"""Most calibration samples; each sweep over them fetches all inner values."""
_SWEEP = 4.0
"""Time of such a run, relative to a plain run: nothing is fused in it."""
_SWEEP_SHARE = 0.2
"""Largest share of the time for candidates of one such sweep."""
_FEWEST = 16
"""Calibration samples that every sweep has."""
_BYTES_PER_S = 2e7
"""Rate in bytes per second of building, checking, loading and timing a model."""
_LEAST_S = 1.0
_ROWS = 0.5
"""Share of the multiply-accumulates in products of a single row from which weights of four bits are tried."""
_UNCACHED_BYTES = 8_000_000
"""Of a model whose weights are read from memory in every run."""

_BAR = "|"

WORTH = 1.05
"""Smallest expected gain of a bet; other candidates are tried after the bets and all that follow from them."""


@dataclass(frozen=True)
class Workload:
    """The division of a model's time, and the cost of candidates.

    Attributes:
        shares: shares of the multiply-accumulates, by kind of layer as in `SPEED`; the rest is in other layers.
        size_bytes: size of the model.
        sample_s: seconds per sample of the baseline.
        calibration: number of calibration samples.
        searched: number of search samples.
        dot_products: whether the processor has 8-bit dot products.
    """

    shares: Mapping[str, float]
    size_bytes: int
    sample_s: float
    calibration: int
    searched: int
    dot_products: bool

    def gain(self, candidate: Candidate) -> float:
        """Return the expected speed-up of a candidate."""
        speeds = SPEED[kind_of(candidate)]
        left = max(1 - sum(self.shares.values()), 0.0)
        time = left + sum(share / self._speed(speeds.get(kind, 1.0)) for kind, share in self.shares.items())
        return _FUSED / (_REST + (1 - _REST) * time)

    def _speed(self, speed: float) -> float:
        return speed if self.dot_products or speed < 1 else sqrt(speed)

    def seconds(self, candidate: Candidate) -> float:
        """Return the expected seconds for a candidate."""
        sweeps = 0.0
        for spec in candidate.passes:
            if isinstance(spec, QuantizeStatic):
                sweeps = 1.0 if spec.method in ("minmax", "moving-average") else 2.0
        calibrated_s = sweeps * _SWEEP * min(self.calibration, _SAMPLES) * self.sample_s
        scored_s = self.searched * self.sample_s / max(self.gain(candidate), 0.1)
        return _LEAST_S + self.size_bytes / _BYTES_PER_S + calibrated_s + scored_s


def calibration_within(left_s: float, sample_s: float, samples: int) -> int:
    """Return the number of calibration samples for a search: a slow model must not calibrate until the time is over.

    Args:
        left_s: seconds for candidates; infinite without a limit.
        sample_s: seconds per sample of the baseline.
        samples: number of samples that there are.
    """
    fitting = inf if sample_s <= 0 else _SWEEP_SHARE * left_s / (_SWEEP * sample_s)
    return int(min(samples, _SAMPLES, max(fitting, _FEWEST)))


def kind_of(candidate: Candidate) -> str:
    """Return the technique of a candidate, a key of `SPEED`."""
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
    """Return the workload of a model at the shapes of `feeds`."""
    found = anatomy_of(model, sizes_in(model, feeds))
    shares = dict[str, float]()
    for layer in found.layers:
        kind = _kind(layer)
        if kind and layer.macs and found.macs:
            shares[kind] = shares.get(kind, 0.0) + layer.macs / found.macs
    dot_products = target.name not in ("x86-avx2", "x86-avx512", "arm64-neon")
    return Workload(shares, size_bytes, sample_s, calibration, searched, dot_products)


def sizes_in(model: ir.Model, feeds: Feeds) -> dict[str, int]:
    """Return the dynamic sizes of a model at the shapes of `feeds`."""
    sizes = dict[str, int]()
    for value in model.graph.inputs:
        fed = feeds.get(value.name or "")
        for dim, side in zip(value.shape or (), () if fed is None else fed.shape, strict=False):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                sizes[str(dim.value)] = int(side)
    return sizes


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
class TrialOrder:
    """Candidates in three parts.

    Attributes:
        bets: the best of each kind, by expected gain per second.
        alike: candidates that differ little from a bet, in the same order.
        late: candidates without expected gain.
    """

    bets: tuple[Candidate, ...]
    alike: tuple[Candidate, ...]
    late: tuple[Candidate, ...]

    @property
    def all(self) -> tuple[Candidate, ...]:
        """All candidates in the order of trials under a time limit."""
        return (*self.bets, *self.alike, *self.late)

    def changed(self, change: Callable[[Candidate], Candidate]) -> "TrialOrder":
        """Return the order with every candidate changed."""
        return TrialOrder(*(tuple(map(change, part)) for part in (self.bets, self.alike, self.late)))

    def led_by(self, candidate: Candidate) -> "TrialOrder":
        """Return the order with a candidate as its first bet."""
        bets, alike, late = (tuple(c for c in part if c != candidate) for part in (self.bets, self.alike, self.late))
        return TrialOrder((candidate, *bets), alike, late)

    def words(self) -> list[str]:
        """Return the names in order, with a `|` between the parts."""
        parts = ([c.name for c in part] for part in (self.bets, self.alike, self.late))
        return [name for part in parts for name in (*part, _BAR)]

    def ordered(self, words: Sequence[str]) -> "TrialOrder":
        """Return the same candidates in the order of `words`; unchanged if `words` are names of others."""
        known = {c.name: c for c in self.all}
        if sorted(words) != sorted(self.words()):
            return self
        parts = [list[Candidate]()]
        for word in words:
            if word == _BAR:
                parts.append([])
            else:
                parts[-1].append(known[word])
        return TrialOrder(*map(tuple, parts[:3]))


def order_of(candidates: Sequence[Candidate], work: Workload | None) -> TrialOrder:
    """Return the order of candidates; without `work`, the given order.

    Of candidates with the same effect on layers, such as calibrations of one graph, the best per second is a bet.
    """
    if work is None:
        return TrialOrder(tuple(candidates), (), ())

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
        return TrialOrder(tuple(ordered), (), ())
    return TrialOrder(tuple(bets), tuple(alike), tuple(late))
