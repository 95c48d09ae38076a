"""Moments of layers on calibration samples: inputs from the pruned network, targets from the original."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Arrays
from onnxopt.measure.runtime.replay import Replay
from onnxopt.pruning.consumers import Consumer
from onnxopt.reconstruction.moments import Accumulator, Moments
from onnxopt.reconstruction.residual import Partner, partner_of
from onnxopt.samples import Samples

LARGEST = 6144
"""Features of a layer up to which its moments are kept: 300 MB in double precision."""
LIMIT_BYTES = 1 << 30
"""Memory that the statistics of several layers may take together."""
_TOO_MUCH = 1 << 62
_ROWS_PER_FEATURE = 8
_FEWEST_ROWS = 32768
HELD_OUT = 5
"""One sample in this many is held out from the fit."""


@dataclass(frozen=True)
class Observed:
    """Moments of one layer on the samples it is fitted to, and on those held out."""

    fit: Moments
    held_out: Moments


def observe(
    original: ir.Model,
    current: ir.Model,
    consumers: Sequence[Consumer],
    samples: Samples,
    *,
    residual: bool = True,
    replays: tuple[Replay, Replay] | None = None,
    keep: Sequence[str] = (),
) -> dict[str, Observed]:
    """Return the moments per layer of its inputs in `current`, with the original's output as target.

    Where the layer's output is added to another value, the target also makes up for the error of that one.

    Args:
        original: the model before pruning.
        current: the same graph with other weights, possibly masked.
        consumers: layers to look at, all in one sweep over the samples.
        samples: at least two batches, or nothing can be held out.
        residual: whether targets include the error of the values added to them.
        replays: the replays of the original and of `current`, which go on where the last sweep stopped.
        keep: values that the next sweep starts from.
    """
    if not consumers:
        return {}
    partners = {
        c.layer.node: _partner(original, c) if residual and current is not original else None for c in consumers
    }
    wanted_y = [c.layer.y for c in consumers]
    others = [p.value for p in partners.values() if p is not None]
    wanted_x = [c.layer.x for c in consumers]
    sums = dict[str, tuple[Accumulator, Accumulator]]()
    batches = max(len(samples) // max(samples.batch_size, 1), 1)
    pairs: Iterator[tuple[Arrays, Arrays]]
    if current is original:
        pairs = ((both, both) for both in Replay(samples).of(original, [*wanted_y, *wanted_x]))
    else:
        theirs, ours = replays or (Replay(samples), Replay(samples))
        pairs = zip(
            ours.of(current, [*wanted_x, *others], keep), theirs.of(original, [*wanted_y, *others], keep), strict=True
        )
    for number, (left, right) in enumerate(pairs):
        for consumer in consumers:
            layer = consumer.layer
            x, y = left[layer.x], right[layer.y]
            partner = partners[layer.node]
            if partner is not None and right[partner.value].shape == y.shape:
                y = y + (right[partner.value] - left[partner.value]) / _shaped(
                    partner.scale, y, layer.window is not None
                )
            limit = most_rows(_features(consumer, x), batches)
            rows = layer.rows(x, y.astype(np.float32), limit, crc32(f"{layer.node}/{number}".encode()))
            if layer.node not in sums:
                size = rows[0].shape[1], rows[1].shape[1]
                sums[layer.node] = Accumulator(*size), Accumulator(*size)
            sums[layer.node][number % HELD_OUT == 1].add(*rows)
    return {name: Observed(fit.moments(), held.moments()) for name, (fit, held) in sums.items()}


def cost_bytes(consumer: Consumer, model: ir.Model) -> int:
    """Return the memory that observing a layer and eliminating from it takes, in double precision."""
    tensor = model.graph.initializers[consumer.layer.weight].const_value
    shape = tensor.shape.numpy() if tensor is not None else (1, 0)
    outputs = max(int(shape[consumer.layer.out_axis]), 1)
    features = int(np.prod(shape)) // outputs
    return 8 * 3 * features * (features + outputs) if features <= LARGEST else _TOO_MUCH


def observable_at_once(
    consumers: Sequence[Consumer], model: ir.Model, limit_bytes: int = LIMIT_BYTES
) -> list[Consumer]:
    """Return those consumers that can be observed at once: of too many an even choice, never too large ones."""
    costs = {c.layer.node: cost_bytes(c, model) for c in consumers}
    fitting = [c for c in consumers if costs[c.layer.node] < _TOO_MUCH]
    for stride in range(1, len(fitting) + 1):
        chosen = fitting[::stride]
        if sum(costs[c.layer.node] for c in chosen) <= limit_bytes:
            return chosen
    return fitting[:1]


def most_rows(features: int, batches: int) -> int:
    """Return the most rows that moments of so many features take from each of `batches`."""
    return max(_FEWEST_ROWS, _ROWS_PER_FEATURE * features) // batches + 1


def _features(consumer: Consumer, x: np.ndarray) -> int:
    if consumer.layer.window is not None:
        return int(x.shape[1]) * consumer.kernel
    return int(x.shape[-2 if consumer.layer.side == "left" else -1])


def _partner(model: ir.Model, consumer: Consumer) -> Partner | None:
    layer = consumer.layer
    if layer.side == "left":
        return None
    tensor = model.graph.initializers[layer.weight].const_value
    outputs = int(tensor.shape.numpy()[layer.out_axis]) if tensor is not None else 0
    return partner_of(model, layer.y, outputs, 1 if layer.window is not None else -1)


def _shaped(scale: np.ndarray, y: np.ndarray, convolution: bool) -> np.ndarray:
    if scale.ndim == 0:
        return scale
    return scale.reshape((1, -1) + (1,) * (y.ndim - 2)) if convolution else scale
