"""The order in which the units of a group are missed least, by each importance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import onnx_ir as ir

from onnxopt import importance as scoring
from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.measure.runtime.activations import Activations
from onnxopt.pruning.consumers import Consumer, weight_matrix
from onnxopt.pruning.observe import Observed
from onnxopt.reconstruction.least_squares import Elimination, removal_order
from onnxopt.samples import Samples

STRENGTH = 1e-3
"""Ridge that units are chosen with, as a share of the mean variance of the features."""


@dataclass(frozen=True)
class Ranking:
    """Units in the order of removal, and the error after the removal of the first, first two, ... units.

    Attributes:
        order: shape (units - 1,); the last unit always stays.
        losses: shape (units - 1,), as a share of the loss of all units of the group, so that groups compare.
    """

    order: np.ndarray
    losses: np.ndarray

    @classmethod
    def by_scores(cls, scores: np.ndarray) -> "Ranking":
        """Remove the lowest scores first; among equals the later unit, as a stable order of what stays has it."""
        order = np.argsort(-scores, kind="stable")[::-1][: len(scores) - 1]
        total = max(float(scores.sum()), 1e-30)
        return cls(order, np.cumsum(scores[order]) / total)

    def lamp(self) -> "Ranking":
        """Return losses as shares of what remains when each unit is removed: Lee et al., "LAMP", ICLR 2021."""
        each = np.diff(self.losses, prepend=0.0)
        left = np.maximum(1.0 - np.concatenate([[0.0], self.losses[:-1]]), 1e-6)
        return Ranking(self.order, np.cumsum(each / left))

    def kept(self, removed: int, size: int) -> tuple[int, ...]:
        """Return the units that stay when `removed` of `size` go."""
        return tuple(sorted(set(range(size)) - set(self.order[:removed].tolist())))


def by_weights(channels: Channels, group: ChannelGroup, importance: str, seed: int) -> np.ndarray:
    """Return a score per unit, summed over the weights that begin or end in it."""
    if importance == "random":
        return np.asarray(scoring.channel_random(np.empty(group.size), 0, (seed, crc32(group.name.encode()))))
    if importance == "bn-scale":
        scales = _norm_scales(channels, group)
        return scales if scales is not None else by_weights(channels, group, "l1", seed)
    rule = {
        "l1": scoring.channel_l1,
        "l2": lambda w, axis: np.square(scoring.channel_l2(w, axis)),
        "linf": scoring.channel_linf,
        "geometric-median": scoring.geometric_median,
    }[importance]
    scores = np.zeros(group.size)
    for name, axis, positions in group.members:
        tensor = channels.model.graph.initializers[name].const_value
        if tensor is not None and len(tensor.shape) >= 2 and tensor.dtype.is_floating_point():
            scores += _per_unit(rule(tensor.numpy(), axis), positions)
    return scores


def by_activations(
    channels: Channels, groups: Sequence[ChannelGroup], samples: Samples, variance: bool
) -> dict[str, np.ndarray]:
    """Return a score per unit of each group: its mean magnitude, or its variance, in the values its consumers read.

    Hu et al., "Network Trimming", 2016, count zeros; the mean magnitude also sees how large the rest is.
    """
    names = list(dict.fromkeys(name for group in groups for name, _, _ in group.consumers))
    readable = [n for n in names if any(n == v.name for node in channels.model.graph for v in node.outputs)]
    sums = dict[tuple[str, int], np.ndarray]()
    for arrays in Activations(channels.model, readable).of(samples) if readable else ():
        for group in groups:
            for name, axis, _ in group.consumers:
                if name in arrays:
                    rows = np.moveaxis(arrays[name].astype(np.float64), axis, 0).reshape(arrays[name].shape[axis], -1)
                    first = np.abs(rows).sum(1) if not variance else rows.sum(1)
                    batch = np.stack([first, np.square(rows).sum(1), np.full(len(rows), rows.shape[1])])
                    sums[name, axis] = sums.get((name, axis), 0.0) + batch
    found = dict[str, np.ndarray]()
    for group in groups:
        scores = np.zeros(group.size)
        for name, axis, positions in group.consumers:
            if (name, axis) in sums:
                first, second, count = sums[name, axis]
                mean = first / count
                scores += _per_unit(second / count - np.square(mean) if variance else mean, positions)
        found[group.name] = scores
    return found


def by_elimination(
    name: str, consumers: Iterable[Consumer], seen: Mapping[str, Observed], model: ir.Model
) -> Ranking | None:
    """Return the ranking of a group by the error of its readers after a least-squares refit.

    None where no layer that reads it was observed. Errors are shares of each layer's output.
    """
    layers, shares = [], []
    for consumer in consumers:
        if name not in consumer.inputs or consumer.layer.node not in seen or not _even(consumer.inputs[name]):
            continue
        moments = seen[consumer.layer.node].fit
        eliminated = Elimination.of(moments, weight_matrix(model, consumer.layer), consumer.inputs[name], STRENGTH)
        layers.append(eliminated)
        shares.append(1.0 / max(eliminated.total, 1e-30))
    if not layers:
        return None
    return Ranking(*removal_order(layers, shares))


def _even(units: Sequence[Sequence[int]]) -> bool:
    return len({len(unit) for unit in units}) == 1


def _per_unit(scores: np.ndarray, positions: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([scores[list(unit)].sum() for unit in positions])


def _norm_scales(channels: Channels, group: ChannelGroup) -> np.ndarray | None:
    """Return the summed magnitudes of batch-norm scales per unit; None where the group has none."""
    places = {(name, axis): positions for name, axis, positions in group.members}
    scores, found = np.zeros(group.size), False
    for node in channels.model.graph:
        if node.op_type == "BatchNormalization" and node.inputs[1] is not None:
            positions, tensor = places.get((node.inputs[1].name or "", 0)), node.inputs[1].const_value
            if positions is not None and tensor is not None:
                scores, found = scores + _per_unit(scoring.batch_norm_scale(tensor.numpy()), positions), True
    return scores if found else None
