"""The steps of every structured pruning pass: plan, compensate, cut, prove."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.graph.channels.find import ChannelGroup, Channels, normalized
from onnxopt.graph.channels.trace import Unit
from onnxopt.pipeline import Applied, Context, Edit, Skip
from onnxopt.pruning.compensate import Compensated, KeptUnits, compensate
from onnxopt.pruning.consumers import consumers_of
from onnxopt.pruning.latency_goal import plan_for_latency
from onnxopt.pruning.observe import Observed
from onnxopt.pruning.plan import Choices, PruningPlan, choices
from onnxopt.pruning.proof import cut_and_prove, proof_batches
from onnxopt.pruning.ranking import by_elimination
from onnxopt.pruning.request import Request
from onnxopt.reconstruction.batches import rebatched
from onnxopt.reconstruction.layers import drop_zero_biases, with_biases
from onnxopt.reconstruction.merge import merged
from onnxopt.samples import Feeds, Samples

_ATTEMPTS = 3
_MIXED = "weights of removed units merged into similar kept units"
_PLURALS: Mapping[Unit, str] = MappingProxyType(
    {"hidden": "hidden units", "head-dimension": "dimensions of each head", "group-channel": "channels of each group"}
)
_GRADES = ((0.99, "more than 99 %"), (0.9, "more than 90 %"), (0.5, "more than 50 %"))


def prune(
    model: ir.Model,
    context: Context,
    request: Request,
    find: Callable[[ir.Model], Channels],
) -> Applied:
    """Return `model` without its least important units, or unchanged with the reasons.

    Args:
        model: the model to prune (not modified).
        context: target, seed and calibration samples.
        request: kind and number of the units to remove.
        find: returns the channel groups of a model.

    Raises:
        UsageError: ONX102 a name is unknown, ONX114 the importance needs samples.
    """
    work = normalized(model)
    samples = rebatched(model, context.calibration)
    request = request.settled(samples)
    biases = with_biases(work) if request.compensate != "none" else set[str]()
    channels = find(work)
    note_types(channels)
    if not channels.groups:
        return Applied(model, (), (Skip("graph", "it has no layer with channels that can be followed"),))
    batches = proof_batches(channels, samples)
    key = model_file.digest(channels.model), request.units, None if samples is None else samples.selection
    refused = context.cache.once("groups without a proof", key, lambda: unprovable(channels, batches))
    some = choices(channels, request, context, samples, refused)
    # Groups without a proof are skipped, and the plan is made again for the others.
    for _ in range(_ATTEMPTS):
        outcome = _planned(some, channels, batches)
        if not outcome.plan.kept:
            return Applied(model, (), (*outcome.plan.skipped, *outcome.missed))
        made = _refitted(channels, outcome.plan, samples, request)
        proved = cut_and_prove(made.channels, made.kept, batches)
        if not proved.refused:
            break
        some = some.without(proved.refused)
    skipped = (*outcome.plan.skipped, *outcome.missed, *(Skip(*item) for item in proved.refused.items()))
    if proved.model is None:
        return Applied(model, (), skipped)
    drop_zero_biases(proved.model, biases)
    groups = {group.name: group for group in channels.groups}
    edits = [Edit(name, _action(groups[name], len(units))) for name, units in proved.kept.items()]
    share = outcome.plan.macs_after / max(outcome.plan.macs_before, 1.0)
    edits += [*made.edits, Edit("graph", f"{units.share(share)} of the MACs remain")]
    return Applied(proved.model, tuple(edits), (*skipped, *made.skipped), proved.difference)


@dataclass(frozen=True)
class _Refitted:
    """The full-size graph with refitted weights, the units to keep, and the edits of layers."""

    channels: Channels
    kept: KeptUnits
    edits: tuple[Edit, ...] = ()
    skipped: tuple[Skip, ...] = ()


def _refitted(channels: Channels, plan: PruningPlan, samples: Samples | None, request: Request) -> _Refitted:
    """Refit the readers of removed units: by least squares on samples, else by merging similar filters."""
    kept = dict(plan.kept)
    if request.compensate == "none":
        return _Refitted(channels, kept)
    if samples is None:
        state, counts = merged(channels, kept)
        return _Refitted(state, kept, tuple(Edit(node, _MIXED) for node in counts))
    made = compensate(channels, kept, samples, request.compensate, choose=_chooser(channels, plan, request))
    helped = (Edit(name, _reduction(fit.before, fit.after)) for name, fit in made.fits.items() if fit.helped)
    return _Refitted(made.channels, made.kept, tuple(helped), tuple(_not_refitted(made)))


@dataclass(frozen=True)
class _Outcome:
    """A plan, and the goals that it misses."""

    plan: PruningPlan
    missed: tuple[Skip, ...] = ()


def note_types(channels: Channels) -> None:
    """Write the types found by the probe to the values, which are inputs and outputs of partial models."""
    for node in channels.model.graph:
        for value in node.outputs:
            kind = channels.trace.first.dtypes.get(value.name or "")
            if value.type is None and kind is not None:
                value.type = ir.TensorType(ir.DataType(kind))


def unprovable(channels: Channels, batches: list[Feeds]) -> dict[str, str]:
    """Return the groups for which the removal of a single unit has no proof, with the reason."""
    kept = {g.name: tuple(range(g.size - 1)) for g in channels.groups if g.frozen is None and g.size > 1}
    if not batches:
        return dict.fromkeys(kept, "the model does not run on synthetic inputs, which the proof needs")
    return dict(cut_and_prove(channels, kept, batches).refused)


def _planned(some: Choices, channels: Channels, batches: list[Feeds]) -> _Outcome:
    goal = some.request.latency
    if goal is None or not some.groups:
        plan = some.plan(some.request.macs)
        share = plan.macs_after / max(plan.macs_before, 1.0)
        wanted = some.request.macs
        if wanted is not None and plan.kept and share > wanted + 1e-9:
            missed = f"goal missed: {units.share(wanted)} of the MACs, {units.share(share)} is the least possible"
            return _Outcome(plan, (Skip("graph", missed),))
        return _Outcome(plan)
    smallest = min(batches, key=lambda feeds: sum(np.asarray(array).nbytes for array in feeds.values()))
    plan, share = plan_for_latency(some, channels, goal, smallest)
    if share > goal:
        return _Outcome(
            plan, (Skip("graph", f"goal missed: {units.share(goal)} of the latency, {units.share(share)} measured"),)
        )
    return _Outcome(plan)


def limited(context: Context, samples: int = 256) -> Context:
    """Return the context with at most `samples` calibration samples."""
    calibration = context.calibration
    if calibration is None or len(calibration) <= samples:
        return context
    # Spread over all of them: samples often lie in the order of their classes.
    spread = np.linspace(0, len(calibration) - 1, samples).round().astype(np.int64)
    return replace(context, calibration=calibration.select(spread))


def _chooser(
    channels: Channels, plan: PruningPlan, request: Request
) -> Callable[[str, Mapping[str, Observed], ir.Model], tuple[int, ...]] | None:
    """Return the rule that chooses units again on the activations of the pruned network; None unless `obs`."""
    if request.importance != "obs":
        return None
    readers = consumers_of(channels)

    def choose(name: str, seen: Mapping[str, Observed], model: ir.Model) -> tuple[int, ...]:
        ranking = by_elimination(name, readers, seen, model) or plan.rankings[name]
        size = len(ranking.order) + 1
        return ranking.kept(size - len(plan.kept[name]), size)

    return choose


def plural_of(unit: Unit) -> str:
    """Return the kind of unit in the plural."""
    return _PLURALS.get(unit, f"{unit}s")


def _action(group: ChannelGroup, kept: int) -> str:
    others = f", shared with {', '.join(group.sources[1:])}" if len(group.sources) > 1 else ""
    return f"{group.size - kept} of {group.size} {plural_of(group.unit)} removed{others}"


def _reduction(before: float, after: float) -> str:
    """Return the reduction of the error in grades, so that similar layers share one line."""
    share = 1.0 - after / before
    how = next((words for least, words in _GRADES if share >= least), "up to 50 %")
    return f"weights refitted: held-out error reduced by {how}"


def _not_refitted(made: Compensated) -> list[Skip]:
    worse = "weights not refitted: the refit does not lower the error on held-out samples"
    large = "weights not refitted: too many inputs for least squares in bounded memory"
    return [
        *(Skip(name, worse) for name, fit in made.fits.items() if not fit.helped),
        *(Skip(name, large) for name in made.too_large),
        *(Skip(name, f"the fit leaves out {n} rows with NaN or infinite values") for name, n in made.missing.items()),
    ]
