"""The saturation error of a layer as nodes of the graph; see `saturation` for the processors.

    q - Cast - Sub(zero point) - [windows] - Gather x 2 - Mul, Add - minus its Clip to 16 bits - MatMul or Conv - Sub

Only pairs of weights that can saturate are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.node_writer import NodeWriter
from onnxopt.quantization.rounding.saturation import HIGH, LOW
from onnxopt.reconstruction.unfold import Window

_LARGEST = 255
_TO_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Pairs:
    """Neighbouring weights whose products can exceed 16 bits together; arrays with one entry per pair.

    Attributes:
        output: output of the layer.
        first: position of the first input along the reduced axis.
        second: position of the second input; at the end of the axis the first again, with a weight of zero.
        weights: shape (pairs, 2).
        outputs: number of outputs of the layer.
    """

    output: np.ndarray
    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray
    outputs: int

    def __len__(self) -> int:
        return len(self.output)


def pairs_of(rows: np.ndarray, places: np.ndarray) -> Pairs:
    """Return the pairs that can saturate with activations from 0 to 255.

    Args:
        rows: int8 weights, shape (outputs, inputs), in the order in which the kernel reduces.
        places: positions of the inputs along the gathered axis, in the same shape.
    """
    odd = rows.shape[1] % 2
    weights = np.pad(rows.astype(np.int64), ((0, 0), (0, odd))).reshape(len(rows), -1, 2)
    where = np.pad(places, ((0, 0), (0, odd)), mode="edge").reshape(len(rows), -1, 2)
    high = np.maximum(weights, 0).sum(-1) * _LARGEST > HIGH
    low = np.minimum(weights, 0).sum(-1) * _LARGEST < LOW
    output, pair = np.nonzero(high | low)
    return Pairs(output, where[output, pair, 0], where[output, pair, 1], weights[output, pair], len(rows))


def floats(write: NodeWriter, value: ir.Value) -> ir.Value:
    """Return `value` as floats."""
    return write("Cast", value, kind=ir.DataType.FLOAT, to=int(ir.DataType.FLOAT))


def excess_of_rows(write: NodeWriter, raw: ir.Value, pairs: Pairs) -> ir.Value:
    """Return the saturated part of the integer sums; `raw` and the result have the features last."""
    sums = _sums(write, raw, pairs, axis=-1, shape=(-1,))
    spread = np.zeros((len(pairs), pairs.outputs), np.float32)
    spread[np.arange(len(pairs)), pairs.output] = 1
    return write("MatMul", _beyond(write, sums), write.constant(spread, np.float32))


def excess_of_windows(
    write: NodeWriter, distance: ir.Value, zero: ir.Value, pairs: Pairs, *, window: Window, pads: Sequence[int]
) -> ir.Value:
    """Return the saturated part of the integer sums of a convolution.

    Args:
        write: writer of nodes before the readers of the result.
        distance: activations minus their zero point, as floats, shape (batch, channels, *spatial).
        zero: their zero point as an unsigned byte, as a float.
        pairs: pairs; places are kernel position times channels plus channel.
        window: window of the convolution.
        pads: begins and ends of the spatial axes.
    """
    rank = len(window.kernel)
    unfolded = _unfold(write, distance, window, pads)
    shape = (-1, *(1,) * rank)
    both = write.constant(pairs.weights.sum(1).reshape(shape), np.float32)
    sums = write("Add", _sums(write, unfolded, pairs, axis=1, shape=shape), write("Mul", both, zero))
    spread = np.zeros((pairs.outputs, len(pairs)), np.float32)
    spread[pairs.output, np.arange(len(pairs))] = 1
    return write("Conv", _beyond(write, sums), write.constant(spread.reshape(*spread.shape, *(1,) * rank), np.float32))


def _sums(write: NodeWriter, raw: ir.Value, pairs: Pairs, axis: int, shape: tuple[int, ...]) -> ir.Value:
    halves = []
    for side, places in enumerate((pairs.first, pairs.second)):
        gathered = write("Gather", raw, write.constant(places), axis=axis)
        weights = write.constant(pairs.weights[:, side].reshape(shape), np.float32)
        halves.append(write("Mul", gathered, weights))
    return write("Add", *halves)


def _beyond(write: NodeWriter, sums: ir.Value) -> ir.Value:
    limits = (write.constant(limit, np.float32) for limit in (LOW, HIGH))
    return write("Sub", sums, write("Clip", sums, *limits))


def _unfold(write: NodeWriter, x: ir.Value, window: Window, pads: Sequence[int]) -> ir.Value:
    """Return every window, channels last, in shape (batch, kernel positions * channels, *output)."""
    rank = len(window.kernel)
    if any(pads):
        x = write("Pad", x, write.constant([0, 0, *pads[:rank], 0, 0, *pads[rank:]]))
    axes, steps = (write.constant(list(a)) for a in (range(2, 2 + rank), window.strides))
    views = []
    for position in np.ndindex(window.kernel):
        starts = [p * d for p, d in zip(position, window.dilations, strict=True)]
        rests = [(k - 1 - p) * d for k, p, d in zip(window.kernel, position, window.dilations, strict=True)]
        ends = [-rest if rest else _TO_END for rest in rests]
        bounds = (write.constant(b) for b in (starts, ends))
        views.append(write("Slice", x, *bounds, axes, steps))
    return views[0] if len(views) == 1 else write("Concat", *views, axis=1)
