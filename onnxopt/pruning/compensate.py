"""Make up for removed units in the layers that read them, one layer after the other, on what really reaches them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from onnxopt.graph.channels.cut import mask_channels
from onnxopt.graph.channels.find import Channels
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.measure.runtime.replay import Replay, live_values
from onnxopt.pruning.consumers import Consumer, consumers_of, kept_features, weight_matrix
from onnxopt.pruning.observe import Observed, affordable, observe
from onnxopt.reconstruction.fit import Fit, Method, fitted
from onnxopt.reconstruction.layers import bias_of, write
from onnxopt.samples import Samples

Kept = dict[str, tuple[int, ...]]
Choose = Callable[[str, Mapping[str, Observed], ir.Model], tuple[int, ...]]
"""Given a group, moments of the layers that read it, and the model so far: the units that stay."""


@dataclass
class Compensated:
    """The full-size graph with other weights, the units to keep, and what was done to each layer.

    Attributes:
        fits: per layer that was looked at.
        missing: how many rows were not finite and left out, per layer with any.
        too_large: layers whose moments would take too much memory.
    """

    channels: Channels
    kept: Kept
    fits: dict[str, Fit] = field(default_factory=dict)
    too_large: tuple[str, ...] = ()
    missing: dict[str, int] = field(default_factory=dict)


def compensate(
    channels: Channels,
    kept: Kept,
    samples: Samples,
    method: Method,
    *,
    residual: bool = True,
    choose: Choose | None = None,
) -> Compensated:
    """Fit each layer that reads removed units, in graph order, on what the network pruned so far gives it.

    Layer by layer on pruned inputs as in He et al., "Channel Pruning", ICCV 2017, with the error of what a residual
    connection adds in the target. The graph keeps its size: removed units are masked, and cut by the caller.

    Args:
        channels: groups of the original.
        kept: units to keep per group; the numbers of them when `choose` decides.
        samples: calibration samples, at least two batches.
        method: how layers are fitted.
        residual: whether targets include the error of what is added to them.
        choose: picks the units of a group when its first reader is reached.
    """
    sequence = _Sequence(channels, samples, residual)
    decided: Kept = {} if choose is not None else dict(kept)
    result = Compensated(sequence.state, decided)
    everything = consumers_of(channels)
    readers = {c.layer.node: c for c in everything if affordable([c], channels.model)}
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
        # What the layer reads of the units that stay is the same whether the others are masked or not.
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
    """The original and the network pruned so far, of both of which every part is computed about once."""

    def __init__(self, channels: Channels, samples: Samples, residual: bool) -> None:
        self.original = channels.model
        self.state = replace(channels, model=channels.model.clone())
        self._samples, self._residual = samples, residual
        self._replays = Replay(samples), Replay(samples)
        self._places = {node.name: number for number, node in enumerate(channels.model.graph)}

    def observed(self, first: Consumer, readers: list[Consumer], decided: Kept) -> dict[str, Observed]:
        """Return what `readers` are given, of which `first` is the next in graph order: all before it is settled."""
        return observe(
            self.original,
            mask_channels(self.state, decided),
            affordable(readers, self.original),
            self._samples,
            self._residual,
            self._replays,
            live_values(self.original, self._places[first.layer.node]),
        )


def _reads(consumer: Consumer, kept: Kept) -> bool:
    return any(name in kept for name in consumer.inputs)


def refit(model: ir.Model, consumer: Consumer, seen: Observed, kept: Kept, method: Method) -> Fit:
    """Fit one layer to what was observed, in place where that lowers its error on held-out samples."""
    weight = weight_matrix(model, consumer.layer)
    stays = kept_features(consumer.inputs, kept, weight.shape[1])
    made = kept_features(consumer.outputs, kept, weight.shape[0])
    bias = bias_of(model, consumer.layer, len(weight))
    fit = fitted(seen.fit, seen.held_out, weight, bias, stays, made, method)
    if fit.helped:
        write(model, consumer.layer, fit.weight, fit.offset)
    return fit
