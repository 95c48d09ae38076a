"""Scores of units from gradients, which need torch; imported on demand."""

from collections.abc import Sequence

import numpy as np

from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.samples import Samples


def by_gradients(
    channels: Channels, groups: Sequence[ChannelGroup], samples: Samples, importance: str
) -> dict[str, np.ndarray]:
    """Return a score per unit of each group, summed over the weights that belong to it: `taylor` or `fisher`.

    Raises:
        UsageError: ONX108 torch is not installed.
        ModelError: ONX309 an operator cannot be trained.
        DataError: ONX206 the labels do not fit the model's outputs.
    """
    from onnxopt.training.sensitivity import fisher_scores, taylor_scores

    places = [(name, axis) for group in groups for name, axis, _ in group.members]
    scores = (taylor_scores if importance == "taylor" else fisher_scores)(channels.model, samples, places)
    found = dict[str, np.ndarray]()
    for group in groups:
        found[group.name] = np.zeros(group.size)
        for name, axis, positions in group.members:
            if (name, axis) in scores:
                found[group.name] += np.array([scores[name, axis][list(unit)].sum() for unit in positions])
    return found
