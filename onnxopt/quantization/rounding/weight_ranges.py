"""Ranges of weights with which no sum of two products saturates on x86 without VNNI; see `saturation`."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import tensor_in
from onnxopt.quantization.rounding.saturation import reduced

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
        rows, axis = _rows(node, weight.const_value.numpy())
        axes[weight.name] = axis
        needed[weight.name] = np.maximum(needed.get(weight.name, 0.0), _reach(rows))
    found = dict[str, list[dict[str, float | int]]]()
    for name, reach in needed.items():
        array = tensor_in(model.graph.initializers[name])
        largest = np.abs(np.moveaxis(array.numpy(), axes[name], 0).reshape(len(reach), -1)).max(1)
        limits = np.maximum(reach, largest)
        if not per_channel:
            limits, largest = limits.max(keepdims=True), largest.max(keepdims=True)
        if (limits > largest).any():
            place = {"axis": axes[name]} if per_channel else {}
            found[name] = [{**place, "rmin": -float(limit), "rmax": float(limit)} for limit in limits]
    return found


def _rows(node: ir.Node, weights: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Return the weights as (outputs, inputs) in every reduction order of kernels, and the axis of outputs."""
    if node.op_type == "Conv":
        if weights.shape[1] == 1 and (node.attributes.get_int("group", 1) or 1) > 1:
            return [np.zeros((len(weights), 2), np.float32)], 0
        return [reduced(weights), weights.reshape(len(weights), -1)], 0
    if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0:
        return [weights], 0
    rank = weights.ndim
    columns = np.moveaxis(weights, rank - 2, -1)  # (..., outputs, inputs)
    return [columns[index] for index in np.ndindex(columns.shape[:-2])], rank - 1


def _reach(orders: list[np.ndarray]) -> np.ndarray:
    """Return the largest sum of two neighbours of equal sign, per output."""
    reach = np.zeros(len(orders[0]), np.float32)
    for rows in orders:
        pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
        for side in (np.maximum(pairs, 0), np.maximum(-pairs, 0)):
            reach = np.maximum(reach, side.sum(-1).max(-1))
    return reach
