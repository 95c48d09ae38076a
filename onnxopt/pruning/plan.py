"""The plan of structured pruning: number and choice of the units to remove per group."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd

from onnxopt import model_file
from onnxopt.allocation import greedy_counts, next_count
from onnxopt.errors import UsageError, nearest
from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.graph.check import require_nodes
from onnxopt.pipeline import Context, Skip
from onnxopt.pruning.protect import protected
from onnxopt.pruning.rank import ranked
from onnxopt.pruning.ranking import Ranking
from onnxopt.pruning.request import Request
from onnxopt.pruning.work import PruningWork
from onnxopt.samples import Samples

_LEAST_KEPT = 0.1
"""Least share of a group that a global choice keeps: no layer can compensate for a group without units."""


@dataclass(frozen=True)
class PruningPlan:
    """Units to keep per group, and reasons for the groups that are not pruned.

    Attributes:
        rankings: the rankings of all groups that may lose units.
        macs_before: the MACs at assumed input sizes; `macs_after`: those predicted, at the same sizes.
    """

    kept: Mapping[str, tuple[int, ...]]
    skipped: tuple[Skip, ...]
    rankings: Mapping[str, Ranking] = field(repr=False)
    macs_before: float
    macs_after: float


@dataclass(frozen=True)
class Choices:
    """The input of a plan before its target is set: removable units, their order, and the saved work."""

    groups: tuple[ChannelGroup, ...]
    skipped: tuple[Skip, ...]
    rankings: Mapping[str, Ranking] = field(repr=False)
    work: PruningWork = field(repr=False)
    steps: Mapping[str, int]
    own: Mapping[str, float]
    request: Request

    def plan(self, macs: float | None) -> PruningPlan:
        """Return the plan that leaves at most the share `macs` of the work; None applies the requested ratio."""
        counts, skipped = _counts(self, macs), list(self.skipped)
        for group in self.groups:
            step = self.steps[group.name]
            if counts[group.name] == 0 and group.size <= step:
                skipped.append(Skip(group.name, f"kept: its {group.size} units are a single block of {step}"))
            elif counts[group.name] == 0:
                reason = f"kept: its share is less than one block of {step}, or other layers are cheaper to prune"
                skipped.append(Skip(group.name, reason))
        kept = {g.name: self.rankings[g.name].kept(counts[g.name], g.size) for g in self.groups if counts[g.name]}
        return PruningPlan(kept, tuple(skipped), self.rankings, self.work.macs({}), self.work.macs(counts))

    def without(self, refused: Mapping[str, str]) -> "Choices":
        """Return the same without the refused groups, which are skipped with the given reasons."""
        groups = tuple(g for g in self.groups if g.name not in refused)
        skips = (Skip(name, reason) for name, reason in refused.items())
        return replace(self, groups=groups, skipped=(*self.skipped, *skips))


def choices(
    channels: Channels, request: Request, context: Context, samples: Samples | None, refused: Mapping[str, str]
) -> Choices:
    """Rank the removable units of a model.

    Args:
        channels: groups of the model.
        request: the settled request.
        context: target and seed.
        samples: calibration samples, at least two batches.
        refused: groups not to prune, with the reason.

    Raises:
        UsageError: ONX102 a name is unknown.
    """
    own = _own_ratios(channels, request)
    groups, skipped = _candidates(channels, request, refused)
    steps = {group.name: _step(group, request, context) for group in groups}
    losing = _losing(groups, own, request, steps)
    rankings = context.cache.once(
        "rankings",
        _ranked_by(channels, losing, request, context, samples),
        lambda: ranked(channels, losing, request, context, samples),
    )
    return Choices(tuple(groups), tuple(skipped), rankings, PruningWork.of(channels), steps, own, request)


def _ranked_by(
    channels: Channels, losing: Sequence[ChannelGroup], request: Request, context: Context, samples: Samples | None
) -> Hashable:
    """Return everything that rankings depend on; the number of units to remove is not part of it."""
    chosen = None if samples is None else samples.selection
    rules = request.importance, request.normalize, request.measured, request.compensate
    return model_file.digest(channels.model), tuple(g.name for g in losing), rules, context.seed, chosen


def _own_ratios(channels: Channels, request: Request) -> dict[str, float]:
    """Read `NODE:RATIO`, where a second group of channels that begins at the same node is `NODE#2`."""
    require_nodes(channels.model, request.exclude)
    known = {source: group.name for group in reversed(channels.groups) for source in group.sources}
    known |= {group.name: group.name for group in channels.groups}
    found = dict[str, float]()
    for text in request.ratios:
        name, _, number = text.rpartition(":")
        try:
            ratio = float(number)
        except ValueError:
            ratio = -1.0
        if not name or not 0 <= ratio < 1:
            raise UsageError(
                "ONX101", "the ratio of a layer cannot be read", where=text, hint="Write NODE:0.5, from 0 to 1."
            )
        if name not in known:
            raise UsageError(
                "ONX102", "no channel group starts at a node of this name", where=name, hint=nearest(name, known)
            )
        found[known[name]] = ratio
    return found


def _candidates(
    channels: Channels, request: Request, refused: Mapping[str, str]
) -> tuple[list[ChannelGroup], list[Skip]]:
    kept_whole = protected(channels, request.protect or ())
    groups, skipped, others = list[ChannelGroup](), list[Skip](), 0
    for group in channels.groups:
        if request.units and group.unit not in request.units:
            others += 1
        elif group.frozen is not None:
            skipped.append(Skip(group.name, group.frozen))
        elif not set(request.exclude).isdisjoint(group.sources):
            skipped.append(Skip(group.name, "excluded"))
        elif group.name in kept_whole:
            skipped.append(Skip(group.name, kept_whole[group.name]))
        elif group.name in refused:
            skipped.append(Skip(group.name, refused[group.name]))
        elif group.size < 2:
            skipped.append(Skip(group.name, "it has one unit only"))
        else:
            groups.append(group)
    if request.units and not groups:
        what = " or ".join(f"{unit}s" for unit in request.units)
        skipped.append(Skip("graph", f"it has no removable {what}; {others} groups are of another kind"))
    return groups, skipped


def _losing(
    groups: Sequence[ChannelGroup], own: Mapping[str, float], request: Request, steps: Mapping[str, int]
) -> list[ChannelGroup]:
    """Return the groups that may lose units, which a local choice determines beforehand."""
    if request.scope != "local" or request.macs is not None or request.latency is not None:
        return list(groups)
    return [g for g in groups if _rounded(g.size, own.get(g.name, request.ratio), steps[g.name])]


def _step(group: ChannelGroup, request: Request, context: Context) -> int:
    """Return the number of units that fill a block of the target's registers in every axis."""
    block = request.round_to if request.round_to != "auto" else context.target.register_floats
    width = min((len(positions[0]) for _, _, positions in group.members), default=1)
    return block // gcd(block, width)


def _counts(given: Choices, macs: float | None) -> dict[str, int]:
    """Return the number of units to remove per group."""
    groups, request, own, work, steps = given.groups, given.request, given.own, given.work, given.steps
    fixed = {g.name: _rounded(g.size, own.get(g.name, request.ratio), steps[g.name]) for g in groups}
    if request.scope == "local":
        return fixed if macs is None else _uniform(groups, own, work, steps, macs)
    free = [g for g in groups if g.name not in own]
    settled = {g.name: fixed[g.name] for g in groups if g.name in own}
    losses = {g.name: given.rankings[g.name].losses.tolist() for g in free}
    most = {g.name: g.size - max(1, round(g.size * _LEAST_KEPT)) for g in free}
    if macs is not None:
        full = max(work.macs({}), 1.0)
        counts = greedy_counts(losses, lambda some: work.macs({**settled, **some}) / full, macs, most, steps)
    else:
        size = max(sum(g.size for g in free), 1)
        counts = greedy_counts(losses, lambda some: 1.0 - sum(some.values()) / size, 1.0 - request.ratio, most, steps)
    return {**settled, **counts}


def _rounded(size: int, ratio: float, step: int) -> int:
    """Return the largest number of units to remove within `ratio` that leaves a multiple of `step`."""
    count, taken = 0, next_count(0, size, step)
    while taken <= size * ratio + 1e-9 and taken < size:
        count, taken = taken, next_count(taken, size, step)
    return count


def _uniform(
    groups: Sequence[ChannelGroup], own: Mapping[str, float], work: PruningWork, steps: Mapping[str, int], goal: float
) -> dict[str, int]:
    """Return the counts at the smallest common ratio that meets the goal for MACs, else at the largest ratio."""
    counts = dict[str, int]()
    for percent in range(1, 100):
        counts = {g.name: _rounded(g.size, own.get(g.name, percent / 100), steps[g.name]) for g in groups}
        if work.macs(counts) <= goal * work.macs({}):
            break
    return counts
