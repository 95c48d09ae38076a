"""Compensation for removed units: least-squares refit of their readers, layer by layer, on actual activations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from onnxopt.graph.channels.cut import mask_channels
from onnxopt.graph.channels.find import Channels
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.measure.runtime.replay import Replay, live_values
from onnxopt.pruning.consumers import Consumer, consumers_of, kept_features, weight_matrix
from onnxopt.pruning.observe import Observed, observable_at_once, observe
from onnxopt.reconstruction.fit import Fit, Method, fitted
from onnxopt.reconstruction.layers import bias_of, write_layer
from onnxopt.samples import Samples

KeptUnits = dict[str, tuple[int, ...]]
Choose = Callable[[str, Mapping[str, Observed], ir.Model], tuple[int, ...]]
"""Maps a group, the moments of its readers, and the current model to the units to keep."""


@dataclass
class Compensated:
    """The full-size graph with refitted weights, the units to keep, and the fit of each layer.

    Attributes:
        fits: the fits by layer.
        missing: number of rows left out for NaN or infinite values, by layer.
        too_large: layers whose moments exceed the memory limit.
    """

    channels: Channels
    kept: KeptUnits
    fits: dict[str, Fit] = field(default_factory=dict)
    too_large: tuple[str, ...] = ()
    missing: dict[str, int] = field(default_factory=dict)


def compensate(
    channels: Channels,
    kept: KeptUnits,
    samples: Samples,
    method: Method,
    *,
    residual: bool = True,
    choose: Choose | None = None,
) -> Compensated:
    """Refit each reader of removed units, in graph order, on activations of the network pruned so far.

    Layer by layer on pruned inputs as in He et al., "Channel Pruning", ICCV 2017, with the error of the other
    branch of a residual sum in the target. The graph keeps its size: removed units are masked, and cut by the caller.

    Args:
        channels: groups of the original.
        kept: units to keep per group; with `choose` only their number counts.
        samples: calibration samples, at least two batches.
        method: method of the refit.
        residual: whether targets include the error of the other branch of a residual sum.
        choose: chooses the units of a group at its first reader.
    """
    sequence = _Sequence(channels, samples, residual)
    decided: KeptUnits = {} if choose is not None else dict(kept)
    result = Compensated(sequence.state, decided)
    everything = consumers_of(channels)
    readers = {c.layer.node: c for c in everything if observable_at_once([c], channels.model)}
    result.too_large = tuple(c.layer.node for c in everything if c.layer.node not in readers and _reads(c, kept))
    for consumer in readers.values():
        raise_if_interrupted()
        if not _reads(consumer, kept) and not decided:
            continue
        seen = dict[str, Observed]()
        for name in consumer.inputs if choose is not None else ():
            if name in kept and name not in decided and choose is not None:
                mine = [c for c in readers.values() if name in c.inputs]
                seen = sequence.observed(consumer, mine, decided)
                decided[name] = choose(name, seen, sequence.state.model)
        # The input from kept units does not depend on the masks of the others.
        if consumer.layer.node not in seen:
            seen = sequence.observed(consumer, [consumer], decided)
        fit = refit(sequence.state.model, consumer, seen[consumer.layer.node], decided, method)
        result.fits[consumer.layer.node] = fit
        both = seen[consumer.layer.node]
        if missing := both.fit.missing + both.held_out.missing:
            result.missing[consumer.layer.node] = missing
    for name in kept:
        decided.setdefault(name, kept[name])
    return result


class _Sequence:
    """The original and the network pruned so far; each part of both is computed about once."""

    def __init__(self, channels: Channels, samples: Samples, residual: bool) -> None:
        self.original = channels.model
        self.state = replace(channels, model=channels.model.clone())
        self._samples, self._residual = samples, residual
        self._replays = Replay(samples), Replay(samples)
        self._places = {node.name: number for number, node in enumerate(channels.model.graph)}

    def observed(self, first: Consumer, readers: list[Consumer], decided: KeptUnits) -> dict[str, Observed]:
        """Return the observed inputs of `readers`; `first` is the next in graph order, and all before it is final."""
        return observe(
            self.original,
            mask_channels(self.state, decided),
            observable_at_once(readers, self.original),
            self._samples,
            residual=self._residual,
            replays=self._replays,
            keep=live_values(self.original, self._places[first.layer.node]),
        )


def _reads(consumer: Consumer, kept: KeptUnits) -> bool:
    return any(name in kept for name in consumer.inputs)


def refit(model: ir.Model, consumer: Consumer, seen: Observed, kept: KeptUnits, method: Method) -> Fit:
    """Refit one layer to the observations, in place if that lowers its error on held-out samples."""
    weight = weight_matrix(model, consumer.layer)
    stays = kept_features(consumer.inputs, kept, weight.shape[1])
    made = kept_features(consumer.outputs, kept, weight.shape[0])
    bias = bias_of(model, consumer.layer, len(weight))
    fit = fitted(seen.fit, seen.held_out, weight, bias, kept=stays, outputs=made, method=method)
    if fit.helped:
        write_layer(model, consumer.layer, fit.weight, fit.offset)
    return fit
