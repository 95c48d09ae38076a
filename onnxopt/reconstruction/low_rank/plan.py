"""The plan of a factorization: ranks of each layer from losses and costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd

import numpy as np
import onnx_ir as ir

from onnxopt.document import units
from onnxopt.reconstruction.layers import LinearLayer
from onnxopt.reconstruction.low_rank.chain_timer import Timer
from onnxopt.reconstruction.low_rank.fit import Choice
from onnxopt.reconstruction.low_rank.forms import FORMS, Form, factor_forms, largest_ranks, of_one_group
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics, weight_of
from onnxopt.reconstruction.low_rank.output_loss import output_loss
from onnxopt.reconstruction.low_rank.rank_choice import MOST_MACS, RankChoice, best_mix, candidates, evbmf_ranks
from onnxopt.samples import Samples

MOST_TIME = 0.85
"""Predicted time, as a share of the dense layer's, above which a layer is not factorized."""


@dataclass(frozen=True)
class RankGoal:
    """The extent of the reduction; at most one of the numbers is given.

    Attributes:
        energy: smallest share of the variance of its outputs that each layer keeps.
        rank_ratio: largest share of its full rank that each layer keeps.
        max_error: largest root mean square error of each layer, relative to the deviation of its outputs.
        macs: largest remaining share of the model's multiply-accumulates.
        latency: largest remaining share of the model's time.
    """

    energy: float | None = None
    rank_ratio: float | None = None
    max_error: float | None = None
    macs: float | None = None
    latency: float | None = None

    @property
    def is_of_model(self) -> bool:
        """Return whether the goal is for the whole model, and not for each layer."""
        return self.macs is not None or self.latency is not None


@dataclass
class RankPlan:
    """The decision for each layer, by node.

    Attributes:
        chosen: choices of the layers to reduce, with their own loss and cost.
        refused: reasons for the other layers.
        missed: the reason why the goal is not reached; empty if it is.
        time_share: predicted time share of the model; None if nothing was timed.
    """

    chosen: dict[str, RankChoice] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    missed: str = ""
    time_share: float | None = None


def plan_ranks(
    model: ir.Model,
    layers: Mapping[str, LinearLayer],
    seen: Mapping[str, LayerStatistics],
    goal: RankGoal,
    *,
    forms: Sequence[Form] = FORMS,
    block: int = 8,
    samples: Samples | None = None,
    macs: Mapping[str, int | None] | None = None,
    total: int = 0,
    timer: Timer | None = None,
    total_ms: float = 0.0,
) -> RankPlan:
    """Return the decision for each layer: of the choices that reach the goal, the fastest by prediction.

    Args:
        model: the input model (not modified).
        layers: reducible layers.
        seen: their statistics on calibration samples; empty to judge by weights.
        goal: the extent of the reduction.
        forms: allowed forms.
        block: ranks are multiples of it.
        samples: samples to compare, for a goal over all layers, the effects of layer errors on the outputs.
        macs: multiply-accumulates of each layer, for such a goal; None if unknown.
        total: multiply-accumulates of the whole model.
        timer: predicts times; None predicts them by multiply-accumulates.
        total_ms: time of the whole model, if there is a timer.
    """
    plan, dense_ms = RankPlan(), dict[str, float]()
    tables = dict[str, list[RankChoice]]()
    for name, layer in layers.items():
        weight = weight_of(model, layer)
        shape = of_one_group(weight.shape, layer.groups)
        usable = [
            form for form in factor_forms(shape[2:]) if form in forms and (layer.groups == 1 or form == "channel")
        ]
        strides = layer.window.strides if layer.window is not None else ()
        table = candidates(weight, usable, strides=strides, block=block, seen=seen.get(name), groups=layer.groups)
        fast, dense_ms[name] = _fast(layer, table, timer)
        if not fast:
            plan.refused[name] = _too_small(shape, usable, block, measured=timer is not None)
        elif goal.is_of_model:
            tables[name] = fast
        else:
            found = _choose(_Reducible(weight, layer.groups, block, fast), goal, observed=bool(seen))
            if isinstance(found, str):
                plan.refused[name] = found
            else:
                plan.chosen[name] = found
    if tables:
        loss = output_loss(model, layers, seen, tables, samples) if samples is not None and seen else {}
        # The effect of a layer's own error on the outputs differs by orders of magnitude between layers.
        weighed = {n: [replace(c, error=c.error * loss.get(n, 1.0)) for c in t] for n, t in tables.items()}
        if goal.latency is not None:
            of_model = _WorkOfModel("time", dense_ms, total_ms, goal.latency, lambda c: c.cost)
            _mix(plan, tables, weighed, of_model)
        elif goal.macs is not None:
            known = {name: float((macs or {}).get(name) or 0) for name in tables}
            _mix(plan, tables, weighed, _WorkOfModel("work", known, float(total), goal.macs, lambda c: c.macs))
    if timer is not None and total_ms > 0:
        saved = sum(dense_ms[name] * (1 - c.cost) for name, c in plan.chosen.items())
        plan.time_share = max(1 - saved / total_ms, 0.0)
    return plan


def _fast(layer: LinearLayer, table: Sequence[RankChoice], timer: Timer | None) -> tuple[list[RankChoice], float]:
    """Return the choices that make a layer cheaper, and its own time in ms; 0 if nothing was timed."""
    if timer is None:
        return [c for c in table if c.macs <= MOST_MACS], 0.0
    timed = [c for c in table if c.macs <= MOST_TIME]
    if not timed:
        return [], 0.0
    dense_ms, *times = timer(layer, [c.choice for c in timed])
    shares = [time / dense_ms for time in times]
    return [replace(c, cost=share) for c, share in zip(timed, shares, strict=True) if share <= MOST_TIME], dense_ms


@dataclass(frozen=True)
class _Reducible:
    """A layer that can be reduced, with the choices that make it cheaper."""

    weight: np.ndarray
    groups: int
    block: int
    fast: Sequence[RankChoice]


def _choose(layer: _Reducible, goal: RankGoal, *, observed: bool) -> RankChoice | str:
    """Return the layer's choice, or the reason why there is none."""
    groups, fast = layer.groups, layer.fast
    if goal.rank_ratio is not None:
        share, block = goal.rank_ratio, layer.block // gcd(layer.block, groups)
        shape = of_one_group(layer.weight.shape, groups)
        good = [c for c in fast if _within(c.choice, shape, share, block)]
        if good:
            return min(good, key=lambda c: (c.error, c.cost))
        why = "it would not be faster, or none of its ranks is a multiple of"
        return f"at {units.share(share)} of its rank {why} {layer.block}"
    if goal.energy is None and goal.max_error is None and not observed:
        needed = {form: evbmf_ranks(layer.weight, form, groups) for form in {c.choice.form for c in fast}}
        good = [c for c in fast if _stands_out(c.choice, needed[c.choice.form])]
        if not good:
            return "too many of its singular values stand out of noise"
    else:
        allowed = 1 - (goal.energy or 0.95) if goal.max_error is None else goal.max_error**2
        good = [c for c in fast if c.error <= allowed]
        if not good:
            least = min(fast, key=lambda c: c.error)
            return (
                f"fast enough it would lose {units.share(least.error, 1)} of its variance with "
                f"{'rank' if len(least.choice.ranks) == 1 else 'ranks'} {_ranks(least.choice)}, over the "
                f"{units.share(allowed, 1)} allowed"
            )
    return min(good, key=lambda c: (c.cost, c.error))


def _within(choice: Choice, shape: tuple[int, ...], share: float, block: int) -> bool:
    largest = largest_ranks(choice.form, shape)
    return all(rank <= max(share * most, min(block, most)) for rank, most in zip(choice.ranks, largest, strict=True))


def _stands_out(choice: Choice, needed: tuple[int, ...]) -> bool:
    return min(needed) > 0 and all(rank >= least for rank, least in zip(choice.ranks, needed, strict=True))


def _too_small(shape: tuple[int, ...], forms: Sequence[Form], block: int, *, measured: bool) -> str:
    if not forms:
        return "none of the forms given exists for it"
    what = "time" if measured else "multiply-accumulates"
    limit = MOST_TIME if measured else MOST_MACS
    sizes = "x".join(map(str, shape))
    return (
        f"too small: of {sizes} no rank that is a multiple of {block} needs at most {units.share(limit)} of the {what}"
    )


def _ranks(choice: Choice) -> str:
    return "x".join(map(str, choice.ranks))


@dataclass(frozen=True)
class _WorkOfModel:
    """The work that a goal over all layers limits.

    Attributes:
        unit: its name, for messages.
        by_layer: work of each layer; 0 if unknown.
        total: work of the whole model.
        goal: largest share of `total` that may remain.
        share: returns the share of its layer's work that a choice needs.
    """

    unit: str
    by_layer: Mapping[str, float]
    total: float
    goal: float
    share: Callable[[RankChoice], float]


def _mix(
    plan: RankPlan,
    tables: Mapping[str, list[RankChoice]],
    weighed: Mapping[str, list[RankChoice]],
    work: _WorkOfModel,
) -> None:
    """Add to the plan the mix that loses least by `weighed` and reaches the goal."""
    for name in [n for n in tables if not work.by_layer[n]]:
        plan.refused[name] = "its multiply-accumulates are unknown"
    usable = {name: table for name, table in weighed.items() if work.by_layer[name]}
    known = {name: work.by_layer[name] for name in usable}
    rest = max(work.total - sum(known.values()), 0.0)
    chosen = best_mix(usable, known, work.goal * work.total - rest, work.share)
    for name in usable:
        if name in chosen:
            plan.chosen[name] = next(c for c in tables[name] if c.choice == chosen[name])
        else:
            plan.refused[name] = "the goal is reached without it, at less loss"
    left = rest + sum(cost * (work.share(plan.chosen[n]) if n in plan.chosen else 1.0) for n, cost in known.items())
    if left > work.goal * work.total * (1 + 1e-9):
        share = left / max(work.total, 1e-12)
        least = f"{units.share(share)} is the least possible"
        plan.missed = f"goal missed: {units.share(work.goal)} of the {work.unit}, {least}"
