"""Rank the units of all groups, a few groups at a time, so that the statistics of few layers are held."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.measure.output_error import OutputError
from onnxopt.pipeline import Context
from onnxopt.pruning.consumers import Consumer, consumers_of
from onnxopt.pruning.gradients import by_gradients
from onnxopt.pruning.observe import LIMIT_BYTES, cost_bytes, observable_at_once, observe
from onnxopt.pruning.ranking import Ranking, by_activations, by_elimination, by_weights
from onnxopt.pruning.request import Request
from onnxopt.pruning.sensitivity import with_measured_losses
from onnxopt.samples import Samples


def ranked(
    channels: Channels,
    groups: Sequence[ChannelGroup],
    request: Request,
    context: Context,
    samples: Samples | None,
) -> dict[str, Ranking]:
    """Return the ranking of each group by the requested importance."""
    importance = request.importance
    scores = dict[str, np.ndarray]()
    if importance in ("act-mean", "act-var") and samples is not None:
        scores = by_activations(channels, groups, samples, importance == "act-var")
    elif importance in ("taylor", "fisher") and samples is not None:
        scores = by_gradients(channels, groups, samples, importance)
    else:
        rule = "l2" if importance == "obs" else importance
        scores = {g.name: by_weights(channels, g, rule, context.seed) for g in groups}
    rankings = {name: Ranking.by_scores(some) for name, some in scores.items()}
    if samples is not None and (importance == "obs" or request.measured):
        rankings |= _observed(channels, groups, rankings, request, samples)
    if request.normalize == "lamp":
        return {name: ranking.lamp() for name, ranking in rankings.items()}
    return rankings


def _observed(
    channels: Channels,
    groups: Sequence[ChannelGroup],
    rankings: Mapping[str, Ranking],
    request: Request,
    samples: Samples,
) -> dict[str, Ranking]:
    """Return rankings by elimination, or with measured losses, or both."""
    readers = consumers_of(channels)
    error = OutputError(channels.model, samples) if request.measured else None
    found = dict[str, Ranking]()
    for together in _in_sweeps(readers, groups, channels):
        members = dict.fromkeys(node for _, nodes in together for node in nodes)
        mine = [c for c in readers if c.layer.node in members]
        seen = observe(channels.model, channels.model, mine, samples)
        for group, _ in together:
            ranking = by_elimination(group.name, mine, seen, channels.model) if request.importance == "obs" else None
            ranking = ranking or rankings[group.name]
            if error is not None:
                ranking = with_measured_losses(
                    ranking, group, channels, readers=mine, seen=seen, error=error, method=request.compensate
                )
            found[group.name] = ranking
    return found


def _in_sweeps(
    readers: Sequence[Consumer], groups: Sequence[ChannelGroup], channels: Channels
) -> list[list[tuple[ChannelGroup, list[str]]]]:
    """Return groups with the layers that read them, as many at a time as memory allows to observe at once."""
    sweeps, room = list[list[tuple[ChannelGroup, list[str]]]](), 0
    for group in groups:
        mine = observable_at_once([c for c in readers if group.name in c.inputs], channels.model)
        cost = sum(cost_bytes(c, channels.model) for c in mine)
        if not sweeps or cost > room:
            sweeps.append([])
            room = LIMIT_BYTES
        sweeps[-1].append((group, [c.layer.node for c in mine]))
        room -= cost
    return sweeps
