"""Output loss of the whole network by pruning a few units of one group."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxopt.graph.channels.cut import mask_channels
from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.measure.output_error import OutputError
from onnxopt.pruning.compensate import refit
from onnxopt.pruning.consumers import Consumer
from onnxopt.pruning.observe import Observed
from onnxopt.pruning.ranking import Ranking
from onnxopt.reconstruction.fit import Method

_SHARES = (0.125, 0.25, 0.5, 0.75)
"""Shares of a group that are removed for the measurement."""


def with_measured_losses(
    ranking: Ranking,
    group: ChannelGroup,
    channels: Channels,
    *,
    readers: Sequence[Consumer],
    seen: Mapping[str, Observed],
    error: OutputError,
    method: Method,
) -> Ranking:
    """Return the ranking with losses in units of the network's output error, measured with a part of the group removed.

    The layers that read the group are refitted first, as after the final choice. Between the measured counts the error
    is interpolated by the ranking's own losses.
    """
    counts = sorted({max(1, round(group.size * share)) for share in _SHARES} & set(range(1, group.size)))
    factors = []
    for removed in counts:
        kept = {group.name: ranking.kept(removed, group.size)}
        state = replace(channels, model=channels.model.clone())
        for consumer in readers:
            if group.name in consumer.inputs and consumer.layer.node in seen:
                refit(state.model, consumer, seen[consumer.layer.node], kept, method)
        loss = error.of(mask_channels(state, kept))
        factors.append(loss / max(float(ranking.losses[removed - 1]), 1e-30))
    scale = np.interp(np.arange(1, group.size), counts, factors)
    return Ranking(ranking.order, np.maximum.accumulate(ranking.losses * scale))
