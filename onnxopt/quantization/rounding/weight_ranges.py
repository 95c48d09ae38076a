"""Ranges of weights with which no sum of two products saturates on x86 without VNNI; see `saturation`."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import tensor_in
from onnxopt.quantization.rounding.saturation import multiplies_singly, neighbours_in_rows, neighbours_in_windows

_AT_ONCE_BYTES = 1 << 22
Overrides = Mapping[str, list[dict[str, float | int]]]
"""Ranges by weight in the quantizer's form: one dictionary per channel with `axis`, `rmin` and `rmax`."""


def safe_ranges(model: ir.Model, op_types: Collection[str], exclude: Collection[str], per_channel: bool) -> Overrides:
    """Return the ranges of weights in `model` that need a wider range than their own.

    If the largest sum of two neighbours of a channel is less than its largest weight times 128/127, 8 bits are kept;
    else the range grows only as far as needed, to 7 bits at most. Depthwise convolutions are not affected.

    Args:
        model: a model with constant float weights.
        op_types: op types to quantize.
        exclude: names of nodes that stay in float.
        per_channel: whether weights have one scale per output channel.
    """
    needed = dict[str, np.ndarray]()
    axes = dict[str, int]()
    for node in model.graph:
        if node.op_type not in op_types or node.name in exclude or len(node.inputs) < 2:
            continue
        weight = node.inputs[1]
        if node.op_type not in ("Conv", "Gemm", "MatMul") or weight is None or weight.const_value is None:
            continue
        if weight.dtype is not ir.DataType.FLOAT or weight.const_value.shape.rank() < 2 or weight.name is None:
            continue
        array = weight.const_value.numpy()
        axis = axes.setdefault(weight.name, _output_axis(node, array.ndim))
        if axis == _output_axis(node, array.ndim):
            reach = _reach(_rows(array, axis), _neighbours(node, array.shape))
        else:
            # Its outputs lie along another axis: any two may be neighbours.
            reach = np.full(array.shape[axis], 2 * np.abs(array).max(initial=0), np.float32)
        needed[weight.name] = np.maximum(needed.get(weight.name, np.float32(0)), reach)
    found = dict[str, list[dict[str, float | int]]]()
    for name, reach in needed.items():
        tensor = tensor_in(model.graph.initializers[name])
        largest = np.abs(_rows(tensor.numpy(), axes[name])).max(1, initial=0)
        limits = np.maximum(reach, largest)
        if not per_channel:
            limits, largest = limits.max(keepdims=True), largest.max(keepdims=True)
        if (limits > largest).any():
            place = {"axis": axes[name]} if per_channel else {}
            found[name] = [{**place, "rmin": -float(limit), "rmax": float(limit)} for limit in limits]
    return found


def safe_magnitudes(weight: np.ndarray, axis: int, per_channel: bool) -> np.ndarray:
    """Return how far the symmetric range of a product's weight must reach, shape (outputs,), or () for one range.

    Args:
        weight: float weights (..., inputs, outputs), or with outputs first and inputs last.
        axis: axis of the outputs; of a recurrent layer's weight (directions, outputs, inputs) that of the directions.
        per_channel: whether every output has its own range.
    """
    inputs = weight.shape[-1 if axis == 0 else -2]
    each = weight.size // max(weight.shape[axis], 1)
    neighbours = [neighbours_in_rows(np.arange(each).reshape(-1, max(inputs, 1)))]
    outputs = np.moveaxis(weight, axis, 0)
    at_once = max(_AT_ONCE_BYTES // (4 * max(each, 1)), 1)
    limits = [np.zeros(0, weight.dtype)]
    for start in range(0, len(outputs), at_once):
        rows = _rows(outputs[start : start + at_once], 0)
        limits.append(np.maximum(_reach(rows, neighbours), np.abs(rows).max(1, initial=0)))
    found = np.concatenate(limits)
    return found if per_channel else found.max(initial=0)


def _output_axis(node: ir.Node, rank: int) -> int:
    outputs_first = node.op_type == "Conv" or (node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0)))
    return 0 if outputs_first else rank - 1


def _neighbours(node: ir.Node, shape: Sequence[int]) -> list[np.ndarray]:
    """Return the neighbours among the places of an output's flat row, for every reduction order."""
    if multiplies_singly(node, shape):
        return []
    if node.op_type == "Conv":
        return neighbours_in_windows(shape)
    axis = _output_axis(node, len(shape))
    places = np.arange(int(np.prod(shape)) // shape[axis])
    return [neighbours_in_rows(places.reshape(-1, shape[1] if axis == 0 else shape[-2]))]


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _reach(rows: np.ndarray, neighbours: Sequence[np.ndarray]) -> np.ndarray:
    """Return the largest sum of two neighbours of equal sign, per output."""
    reach = np.zeros(len(rows), np.float32)
    for two in neighbours:
        pairs = rows[:, two]
        for side in (np.maximum(pairs, 0), np.maximum(-pairs, 0)):
            reach = np.maximum(reach, side.sum(-1).max(-1, initial=0))
    return reach
