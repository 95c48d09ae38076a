"""Affine correction of INT8 layers, channel by channel: the least squares of the float output on the quantized one.

Tang et al., "QwT-v2: practical, effective and efficient post-training quantization", arXiv 2505.20932, 2025; here the
factor goes into the scale of the weight and the shift into the bias, so that nothing is computed in addition. Layer by
layer in graph order, so that a correction sees those before it; one sample in five is held out and decides, for each
layer, between factor and shift, the shift alone (bias correction) and nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.measure.runtime.stages import Stages
from onnxopt.quantization.closeness import Closeness
from onnxopt.quantization.diagnosis.matching import counterparts
from onnxopt.quantization.held_out import fitted_and_held_out
from onnxopt.samples import Samples

CORRECTABLE = ("Conv", "Gemm", "MatMul")
LEAST_FACTOR, MOST_FACTOR = 0.5, 2.0
"""Range of a factor: beyond it, the few values of a channel that hardly varies decided it."""
_GAIN_DB = 0.1
"""By how much outputs must be closer: less is chance on a few samples."""
_KINDS = ((True, True), (False, True), (True, False))
"""With a factor or not, with a shift or not."""
_BETTER = 0.99
"""Share of the error that may remain where a correction is used: a smaller gain is chance."""


class ScaledIntegers(NamedTuple):
    """Integers behind DequantizeLinear that only one node reads, and their scale."""

    integers: ir.Value
    scale: ir.Value


@dataclass(frozen=True)
class CorrectableLayer:
    """A layer whose output can be corrected.

    Attributes:
        node: the node in the quantized model.
        axis: the axis of its output's channels.
        weight: the weight, with a scale for each output channel; None where its scale cannot change.
        bias: the bias of 32 bits; None where it has none, and then there is no shift.
    """

    node: ir.Node
    axis: int
    weight: ScaledIntegers | None
    bias: ScaledIntegers | None


class PairedSums:
    """Sums over all values of each channel, of the float output `y` and the quantized one `q`."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: np.ndarray | float = 0.0

    def add(self, y: np.ndarray, q: np.ndarray) -> None:
        """Add values of shape (rows, channels)."""
        y, q = y.astype(np.float64), q.astype(np.float64)
        self.count += len(y)
        self._sums = self._sums + np.stack([y.sum(0), q.sum(0), (y * y).sum(0), (q * q).sum(0), (y * q).sum(0)])

    def _means(self) -> np.ndarray:
        return np.asarray(self._sums) / max(self.count, 1)

    def fit(self, *, factor: bool, shift: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return factor and shift of each channel with the least squares, shape (channels,)."""
        y, q, _, qq, yq = self._means()
        if not factor:
            return np.ones_like(y), y - q
        above, below = (yq - y * q, qq - q * q) if shift else (yq, qq)
        # Where nothing varies but rounding, no factor can be known.
        known = below > 1e-12 * np.maximum(qq, 1e-30)
        factors = np.divide(above, below, out=np.ones_like(y), where=known)
        factors = np.clip(factors, LEAST_FACTOR, MOST_FACTOR)
        return factors, y - factors * q if shift else np.zeros_like(y)

    def error(self, factors: np.ndarray, shifts: np.ndarray) -> float:
        """Return the mean over all channels of the squared distance of `factors * q + shifts` from `y`."""
        y, q, yy, qq, yq = self._means()
        each = yy - 2 * factors * yq - 2 * shifts * y + factors**2 * qq + 2 * factors * shifts * q + shifts**2
        return float(np.maximum(each, 0).mean())


def correct_if_closer(
    quantized: ir.Model, model: ir.Model, samples: Samples, others: Samples
) -> tuple[dict[str, float], str]:
    """Correct layers like `correct`, with factors or without, where the outputs come closer to the float model's.

    Args:
        quantized: the model with integers behind DequantizeLinear.
        model: the model in floats.
        samples: samples to fit layers to.
        others: samples to compare outputs on; disjoint from `samples` where there are enough.

    Returns:
        What `correct` returns, and why nothing was corrected; "" where something was.
    """
    kept = {value: value.const_value for value in quantized.graph.initializers.values()}
    closeness = Closeness(model, others)
    before = best = after = closeness.db(quantized)
    found, values = dict[str, float](), kept
    for factors in (True, False):
        done = correct_channels(quantized, model, samples, factors=factors)
        after = closeness.db(quantized)
        if done and after > best + (0 if found else _GAIN_DB):
            best, found, values = after, done, {value: value.const_value for value in kept}
        for value, tensor in kept.items():
            value.const_value = tensor
    for value, tensor in values.items():
        value.const_value = tensor
    if found:
        return found, ""
    return (
        {},
        f"corrected channels leave the outputs {after:.1f} dB close to the float model's, {before:.1f} dB without",
    )


def correct_channels(
    quantized: ir.Model, model: ir.Model, samples: Samples, *, factors: bool = True
) -> dict[str, float]:
    """Correct layers of `quantized` in place against the float `model` that it was made from.

    Args:
        quantized: the model with integers behind DequantizeLinear.
        model: the model in floats.
        samples: samples to fit to and to decide on.
        factors: whether scales may change; else shifts alone.

    Returns:
        By layer, the share of its mean squared error that remains on the samples held out.
    """
    source, done = counterparts(quantized, model), dict[str, float]()
    parts = fitted_and_held_out(samples)
    first = sum(1 for _ in parts[0])
    layers = [one for one in map(_layer, quantized.graph) if one is not None and one.node.outputs[0].name in source]
    runs = [Stages(one, lambda: chain(*parts), len(layers)) for one in (model, quantized)]
    for layer in layers:
        name = layer.node.outputs[0].name or ""
        raise_if_interrupted()
        seen, unseen = _moments(runs[0].of(source[name]), runs[1].of(name), layer.axis, first)
        remains = _improve(layer, seen, unseen, factors)
        if remains is not None:
            done[layer.node.name or ""] = remains
    return done


def _improve(layer: CorrectableLayer, seen: PairedSums, unseen: PairedSums, factors: bool) -> float | None:
    """Fold in the best correction, and return the share of the error that remains; None where none is better."""
    if not seen.count or not unseen.count:
        return None
    kinds = [(f, s) for f, s in _KINDS if not f or (factors and layer.weight is not None)]
    fits = [seen.fit(factor=f, shift=s) for f, s in kinds if layer.bias or not s]
    if not fits:
        return None
    ones = np.ones_like(fits[0][0])
    before = unseen.error(ones, 0 * ones)
    best = min(fits, key=lambda fit: unseen.error(*fit))
    after = unseen.error(*best)
    if not after < _BETTER * before:
        return None
    _fold(layer, *best)
    return after / before


def _fold(layer: CorrectableLayer, factors: np.ndarray, shifts: np.ndarray) -> None:
    if layer.weight is not None:
        _multiply(layer.weight.scale, factors)
    if layer.bias is None:
        return
    integers, scale = layer.bias
    if layer.weight is not None:
        _multiply(scale, factors)
    steps = np.rint(shifts / tensor_in(scale).numpy().astype(np.float64))
    limit = np.iinfo(np.int32)
    corrected = np.clip(tensor_in(integers).numpy().astype(np.float64) + steps, limit.min, limit.max)
    set_weight(integers, corrected.astype(np.int32))


def _multiply(scale: ir.Value, factors: np.ndarray) -> None:
    set_weight(scale, (tensor_in(scale).numpy().astype(np.float64) * factors).astype(np.float32))


def _layer(node: ir.Node) -> CorrectableLayer | None:
    """Return a layer with its channels that can be corrected; None where that is nothing."""
    if node.op_type not in CORRECTABLE or node.domain:
        return None
    weight, bias = _stored(node, 1), _stored(node, 2)
    if bias is not None and bias.integers.dtype is not ir.DataType.INT32:
        bias = None
    if weight is not None:
        scale = tensor_in(weight.scale)
        channels = 0 if scale.size == 1 else _channels(node, weight.integers)
        fits = scale.size == channels and (bias is None or _size(bias.scale) == channels)
        # A bias in floats would not grow with the scale of the weight.
        own_bias = bias is not None or len(node.inputs) < 3 or node.inputs[2] is None
        weight = weight if fits and own_bias else None
    if weight is None and bias is None:
        return None
    return CorrectableLayer(node, 1 if node.op_type == "Conv" else -1, weight, bias)


def _channels(node: ir.Node, weight: ir.Value) -> int:
    """Return the number of a weight's output channels; 0 if its scales are along another axis."""
    shape = tensor_in(weight).shape.numpy()
    first = node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1)
    axis = 0 if first else len(shape) - 1
    producer = next(use.node for use in weight.uses())
    return int(shape[axis]) if producer.attributes.get_int("axis", 1) % len(shape) == axis else 0


def _size(value: ir.Value) -> int:
    return 0 if value.const_value is None else int(value.const_value.size)


def _stored(node: ir.Node, slot: int) -> ScaledIntegers | None:
    value = node.inputs[slot] if len(node.inputs) > slot else None
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear" or len(producer.outputs[0].uses()) != 1:
        return None
    integers, scale = producer.inputs[0], producer.inputs[1]
    alone = (v is not None and v.const_value is not None and len(v.uses()) == 1 for v in (integers, scale))
    return ScaledIntegers(integers, scale) if all(alone) and integers is not None and scale is not None else None


def _moments(before: Iterable[np.ndarray], after: Iterable[np.ndarray], axis: int, first: int) -> list[PairedSums]:
    """Return the sums over the `first` batches of a layer's output, and over the others."""
    found = [PairedSums(), PairedSums()]
    for number, pair in enumerate(zip(before, after, strict=True)):
        found[number >= first].add(*(_rows(array, axis) for array in pair))
    return found


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
