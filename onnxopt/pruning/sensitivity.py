"""Output loss of the whole network by pruning a few units of one group."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.cut import mask_channels
from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.measure.changed import ChangedOutputs
from onnxopt.measure.metrics.outputs import are_probabilities
from onnxopt.pruning.compensate import refit
from onnxopt.pruning.consumers import Consumer
from onnxopt.pruning.observe import Observed
from onnxopt.pruning.ranking import Ranking
from onnxopt.reconstruction.fit import Method
from onnxopt.samples import Samples

_SHARES = (0.125, 0.25, 0.5, 0.75)
"""Shares of a group that are removed to see what it does."""
_SAMPLES = 64
_ROUNDING = 1e-11
"""Error that float32 arithmetic makes where a graph is cut at another place."""


class OutputError:
    """Error of a changed model's outputs relative to their variance, on a few samples where there are numbers."""

    def __init__(self, model: ir.Model, samples: Samples) -> None:
        self._changed = ChangedOutputs(model, samples.take(min(_SAMPLES, len(samples))))
        self._outputs = list(map(_compared, self._changed.original))
        together = (np.concatenate(parts) for parts in zip(*self._outputs, strict=True))
        self._scales = [_variance(every[np.isfinite(every)]) for every in together]

    def of(self, model: ir.Model) -> float:
        """Return the mean squared difference over variance, averaged over the float outputs.

        0 where it is rounding, infinite where the change makes NaN.
        """
        total, count = 0.0, 0
        for mine, theirs in zip(map(_compared, self._changed.of(model)), self._outputs, strict=True):
            for one, other, scale in zip(mine, theirs, self._scales, strict=True):
                known = np.isfinite(other)
                total += float(np.square(one[known] - other[known]).sum()) / scale
                count += int(known.sum())
        error = total / max(count, 1)
        if not np.isfinite(error):
            return float("inf")
        return error if error > _ROUNDING else 0.0


def _variance(numbers: np.ndarray) -> float:
    return max(float(np.var(numbers)), 1e-30) if numbers.size else 1.0


def _compared(outputs: Sequence[Any]) -> list[np.ndarray]:
    arrays = [a for a in outputs if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return [_logits(a.astype(np.float64)).reshape(-1) for a in arrays]


def _logits(array: np.ndarray) -> np.ndarray:
    """Return probabilities as their logarithms: a sure answer hardly moves as a probability before it is lost."""
    if array.ndim < 2 or array.shape[-1] < 2 or not are_probabilities(array):
        return array
    logs = np.log(array + 1e-6)
    return np.asarray(logs - logs.mean(-1, keepdims=True))


def measured(
    ranking: Ranking,
    group: ChannelGroup,
    channels: Channels,
    readers: Sequence[Consumer],
    seen: Mapping[str, Observed],
    error: OutputError,
    method: Method,
) -> Ranking:
    """Return the ranking with losses in units of the network's output error, measured where some of the group is gone.

    The layers that read the group make up for the loss first, as they will in the end. Between the measured counts the
    ranking's own losses tell how the error grows.
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
