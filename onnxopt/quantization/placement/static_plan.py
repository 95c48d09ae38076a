"""Plan of static quantization: clipped ranges and nodes in float, chosen by measurement."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import Session
from onnxopt.quantization.attempt import attempt, first_look, loadable
from onnxopt.quantization.built import Built
from onnxopt.quantization.calibration.calibrate import Calibration
from onnxopt.quantization.calibration.histogram import Extremes, Range
from onnxopt.quantization.calibration.spread import UNBOUNDED
from onnxopt.quantization.closeness import BEST_DB, Closeness, Ratios, mean_db, reachable_db
from onnxopt.quantization.placement.joins import before_softmax, heads_apart, inner_apart
from onnxopt.quantization.placement.tails import REASON, detection_tail, joined_heads
from onnxopt.samples import Samples

Make = Callable[[Mapping[str, Range], tuple[str, ...]], Built]
"""Quantizes with these ranges, and with the named nodes in float."""

_GAIN_DB = 1.0
"""Smallest gain in dB for clipping: with less, the widest range is the safest."""
_WORTH_DB = 3.0
"""Smallest gain in dB for leaving more nodes in float, because that costs time."""


_FEW = 0.1
"""Largest share of nodes whose noise is measured alone before their remedies are tried."""


@dataclass(frozen=True)
class StaticPlan:
    """The decisions, and the resulting model.

    Attributes:
        built: the quantized model, which loads and runs.
        ranges: its ranges.
        left: nodes left in float, with the reason.
        clipped: tensors with a clipped range, with the reason.
        optimized: the runtime's graph of the model, as `opened` gives it.
    """

    built: Built
    ranges: Mapping[str, Range]
    left: Mapping[str, str] = field(default_factory=dict)
    clipped: Mapping[str, str] = field(default_factory=dict)
    optimized: bytes = b""

    @property
    def model(self) -> ir.Model:
        """The quantized model."""
        return self.built.model


def decide(
    before: ir.Model,
    calibration: Calibration,
    make: Make,
    *,
    nodes: Sequence[ir.Node],
    obstacles: Mapping[str, str],
    samples: Samples,
) -> StaticPlan:
    """Return the plan whose model is closest to `before`; of similar ones, the simplest.

    Nodes at infinities and at masks stay in float, because a clipped mask would hide nothing, and detection tails with
    all that follows. For giants, loud samples and joins of very different tensors, each remedy is measured beside doing
    nothing.

    Args:
        before: the float model, with all nodes named.
        calibration: its ranges.
        make: quantizes it.
        nodes: nodes of `before` that may be quantized.
        obstacles: nodes that must stay in float, with the reason.
        samples: samples in batches of one.

    Raises:
        NativeError, ModelError: no form of the model runs.
    """
    names = {node.name for node in nodes}
    heads = heads_apart(before, calibration.ranges)
    tail = dict.fromkeys(detection_tail(before, (*heads, *joined_heads(before))), REASON)
    needed = (_unbounded(before, calibration.extremes), heads, obstacles)
    left = tail | {name: reason for some in needed for name, reason in some.items() if name in names}
    feeds = next(iter(samples), None)

    remedies = _remedies(before, calibration, names - left.keys())
    closeness = _closeness(before, samples, calibration) if remedies else None
    if calibration.watch is not None:
        calibration.watch.close()

    def planned(ranges: Mapping[str, Range], kept: Mapping[str, str]) -> tuple[StaticPlan, Ratios]:
        candidates = [node for node in nodes if node.name not in kept]
        measure = None if closeness is None else closeness.ratios
        made = attempt(lambda more: make(ranges, (*kept, *more)), candidates, feeds, measure)
        return StaticPlan(made.built, ranges, {**kept, **made.left}, optimized=made.optimized), made.ratios

    best, noise = planned(calibration.ranges, left)
    able = closeness is not None and any(mean_db(noise) + gain <= BEST_DB for *_, gain in remedies)
    part = _part(before, remedies, best, make, closeness) if able and closeness is not None else None
    for ranges, kept, clipped, gain in remedies:
        # Each try builds and loads the model once more.
        least = mean_db(noise) + gain
        if least > (BEST_DB if part is None else reachable_db(noise, part)):
            continue
        tried, closer = planned({**best.ranges, **ranges}, {**best.left, **kept})
        if mean_db(closer) >= least:
            clips = {n: why for n, why in best.clipped.items() if n not in ranges}
            best, noise = replace(tried, clipped={**clips, **clipped}), closer
    return best


def _closeness(before: ir.Model, samples: Samples, calibration: Calibration) -> Closeness:
    """Return the judge of quantized forms; calibration has just run most float models, in a session that is open."""
    watch = calibration.watch
    return Closeness(before, samples, watch.outputs if watch is not None and watch.is_open else None)


def _part(
    before: ir.Model, remedies: Sequence["_Remedy"], best: StaticPlan, make: Make, closeness: Closeness
) -> Ratios | None:
    """Return the noise of the nodes alone that remedies change, in a graph that is in float otherwise.

    It costs a third of a try, and most remedies for a few of thousands of nodes cannot gain enough.

    Returns:
        None for many nodes, and where they are not quantized alone as they are with all others.
    """
    few = {name for ranges, kept, *_ in remedies for name in (*_around(before, dict.fromkeys(ranges, "")), *kept)}
    if len(few) > _FEW * len(before.graph):
        return None
    rest = [node.name or "" for node in before.graph if node.name not in few and node.name not in best.left]
    nodes = (node for node in before.graph if node.name in few)
    tensors = {v.name or "" for node in nodes for v in (*node.inputs, *node.outputs) if v is not None}
    ranges = {name: best.ranges[name] for name in tensors if name in best.ranges}
    scales = {f"{name}_scale" for name in tensors} & best.model.graph.initializers.keys()
    try:
        alone = make(ranges, (*best.left, *rest))
        if scales - alone.model.graph.initializers.keys():
            return None
        return closeness.ratios(Session(loadable(alone), first_look(alone)))
    except (NativeError, ModelError):
        return None


_Remedy = tuple[Mapping[str, Range], Mapping[str, str], Mapping[str, str], float]
"""Ranges, nodes to leave in float, reasons for clipped ranges, and the required gain in dB."""


def _remedies(before: ir.Model, found: Calibration, names: Collection[str | None]) -> list[_Remedy]:
    """Return the remedies to try, each on top of the accepted ones before it; only nodes in `names` are affected."""
    remedies = list[_Remedy]()
    sizes = {n: f"{e.magnitude:.3g}" for n, e in found.extremes.items()}
    giants = {n: r for n, r in found.without_giants.items() if found.extremes[n].magnitude < UNBOUNDED}
    # A clipped mask would not hide everything, so such tensors are not clipped.
    masks = giants.keys() & before_softmax(before)
    few = {n: (r, f"{_said(r)}: a few values reach {sizes[n]}, far from all others") for n, r in giants.items()}
    few = {n: both for n, both in few.items() if n not in masks}
    loud = {n: (r, f"{_said(r)}: of the samples, a few are far louder") for n, r in found.without_loud.items()}
    for some in ({**few, **loud}, few, loud):
        # One spoiled range hides the cost of another, so all are tried together first.
        if some and (not remedies or (few and loud)):
            clipped = {n: reason for n, (_, reason) in some.items()}
            remedies.append(({n: covered for n, (covered, _) in some.items()}, {}, clipped, _GAIN_DB))
    for names_of, gain in ((masks, _GAIN_DB), (giants.keys(), _WORTH_DB)):
        said = {n: f"values of {n} reach {sizes[n]}, far from all others" for n in giants if n in names_of}
        if kept := _only(_around(before, said), names):
            remedies.append(({n: found.ranges[n] for n in said}, kept, {}, gain))
    if inner := _only(inner_apart(before, found.ranges), names):
        remedies.append(({}, inner, {}, _WORTH_DB))
    return remedies


def _only(reasons: Mapping[str, str], names: Collection[str | None]) -> dict[str, str]:
    return {name: reason for name, reason in reasons.items() if name in names}


def _said(covered: Range) -> str:
    return f"its range ends at {covered.low:.3g} and {covered.high:.3g}"


def _unbounded(model: ir.Model, found: Mapping[str, Extremes]) -> dict[str, str]:
    infinite = {n: f"{n} holds infinities" for n, e in found.items() if e.spread is not None and e.spread.infinite}
    huge = {n: f"values of {n} reach {e.magnitude:.3g}" for n, e in found.items() if e.magnitude >= UNBOUNDED}
    return _around(model, {**huge, **infinite})


def _around(model: ir.Model, reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes that write or read the tensors of `reasons`, with the reason."""

    def first(values: Iterable[ir.Value | None]) -> str | None:
        names = (v.name or "" for v in values if v is not None)
        return next((reasons[name] for name in names if name in reasons), None)

    found = ((node.name or "", first((*node.outputs, *node.inputs))) for node in model.graph)
    return {name: reason for name, reason in found if reason is not None}
