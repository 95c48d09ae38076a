"""New rounding of a QDQ model's weights that changes each layer's products least."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.graph.weights.quantized import (
    QuantizedWeight,
    float_weights,
    masters_of,
    quantized_weights,
)
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.quantization.held_out import fitted_and_held_out
from onnxopt.quantization.rounding.gptq import error_of, gptq_on_grid
from onnxopt.quantization.rounding.hessians import LIMIT_BYTES, MOST_FEATURES, ROWS, Read, at_most, hessians, sweeps
from onnxopt.quantization.rounding.saturation import MOST_PAIR, neighbours_in_rows, neighbours_in_windows
from onnxopt.reconstruction.linear import LinearLayer, linear_layer
from onnxopt.samples import Samples


@dataclass(frozen=True)
class Rounded:
    """Output error by layer, relative to rounding to nearest, and the reasons for skipped layers."""

    errors: Mapping[str, float]
    left: Mapping[str, str]


@dataclass(frozen=True)
class _Subject:
    layer: LinearLayer
    weight: QuantizedWeight
    floats: np.ndarray

    @property
    def features(self) -> int:
        return int(self.layer.matrix(self.floats).shape[1])


def round_by_gptq(quantized: ir.Model, model: ir.Model, samples: Samples, *, avoid_saturation: bool = False) -> Rounded:
    """Round the weights of convolutions and products in `quantized` by GPTQ, in place; scales do not change.

    Inputs are those of the model quantized so far, in graph order, for as many layers at a time as memory allows. One
    sample in five is held out and decides whether a layer keeps the new rounding.

    Args:
        quantized: a model with weights before DequantizeLinear.
        model: the float model of `quantized`.
        samples: samples to observe the inputs of layers.
        avoid_saturation: whether sums of two neighbouring products must fit into 16 bits.

    Raises:
        NativeError: ONX401 a run failed.
    """
    subjects, left = _subjects(quantized, model)
    errors = dict[str, float]()
    reads = [_read(quantized, subject) for subject in subjects.values()]
    fit, judge = fitted_and_held_out(samples)
    for group in sweeps(reads, LIMIT_BYTES // 2):
        seen, unseen = (hessians(quantized, group, part) for part in (fit, judge))
        for name, hessian in seen.items():
            raise_if_interrupted()
            ratio = _round(quantized, subjects[name], hessian, unseen[name], avoid_saturation)
            if ratio is None:
                left[name] = "on samples held out, rounding to nearest is as good"
            else:
                errors[name] = ratio
    return Rounded(errors, left)


def _subjects(quantized: ir.Model, model: ir.Model) -> tuple[dict[str, _Subject], dict[str, str]]:
    weights = {weight.value: weight for weight in quantized_weights(quantized) if not weight.factors}
    masters = masters_of(quantized, list(weights.values()), float_weights(model))
    source = {node.name: node for node in model.graph}
    found, left = dict[str, _Subject](), dict[str, str]()
    for node in quantized.graph:
        name, value = node.name or "", node.inputs[1] if len(node.inputs) > 1 else None
        if node.op_type not in ("Conv", "Gemm", "MatMul") or value is None or value.name not in weights:
            continue
        weight = weights[value.name]
        layer = linear_layer(model, source[name], grouped=True) if name in source else None
        if layer is None or weight.name not in masters or layer.side != "right" or layer.scale != 1:
            left[name] = "its weights are not its own, or not those of the original"
        elif layer.groups != 1:
            left[name] = "it is a convolution in groups: few inputs share an output"
        elif -1 in weight.shape and weight.shape.index(-1) != layer.out_axis:
            left[name] = "its scales do not go with its outputs"
        else:
            subject = _Subject(layer, weight, masters[weight.name])
            if subject.features > MOST_FEATURES:
                left[name] = f"it has more than {MOST_FEATURES} inputs"
            else:
                found[name] = subject
    return found, left


def _read(quantized: ir.Model, subject: _Subject) -> Read:
    node = next(n for n in quantized.graph if n.name == subject.layer.node)
    source = node.inputs[0]
    assert source is not None
    x, y = source.name or "", node.outputs[0].name or ""

    def rows(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return at_most(subject.layer.rows(arrays[x], arrays[y], ROWS, 0)[0])

    return Read(subject.layer.node, (x, y), subject.features, rows)


def _round(
    quantized: ir.Model, subject: _Subject, seen: np.ndarray, unseen: np.ndarray, avoid_saturation: bool
) -> float | None:
    """Write new integers and return the ratio of their error to the old one; None if it is not smaller.

    `seen` is the Hessian for the fit, `unseen` the held-out one for the decision.
    """
    layer, weight = subject.layer, subject.weight
    value = quantized.graph.initializers[weight.name]
    scales = quantized.graph.initializers[weight.scale].const_value
    assert scales is not None
    stored, shape = tensor_in(value).numpy(), subject.floats.shape

    def rows(array: np.ndarray) -> np.ndarray:
        return layer.matrix(np.broadcast_to(array, shape))

    scale, shift = rows(scales.numpy().reshape(weight.shape)), rows(weight.shift)
    floats, old = rows(subject.floats), rows(stored.astype(np.float64)) - shift
    # Within the old range of integers: those of fewer bits keep their range, and none leaves its type.
    new = gptq_on_grid(floats, seen, scale[:, 0], rows(weight.largest)[:, 0]).astype(np.float64)
    if avoid_saturation:
        in_rows = [neighbours_in_rows(np.arange(old.shape[1])[None])]
        new = _inside(new, old, in_rows if layer.window is None else neighbours_in_windows(shape))
    before, after = (error_of(integers * scale - floats, unseen) for integers in (old, new))
    if not after < before:
        return None
    set_weight(value, layer.array(new + shift, stored))
    return after / before


def _inside(new: np.ndarray, old: np.ndarray, neighbours: Sequence[np.ndarray]) -> np.ndarray:
    """Return `new`, with the `old` integers where the sum of two neighbours of equal sign would be too large."""
    found = new.copy()
    while True:
        reverted = False
        for two in neighbours:
            pairs = found[:, two]
            most = np.maximum(np.maximum(pairs, 0).sum(-1), np.maximum(-pairs, 0).sum(-1))
            for row, pair in np.argwhere(most > MOST_PAIR):
                place = two[pair]
                reverted |= bool((found[row, place] != old[row, place]).any())
                found[row, place] = old[row, place]
        if not reverted:
            return found
