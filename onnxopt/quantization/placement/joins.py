"""Nodes that join tensors of very different magnitude: a common scale would round the smaller to nothing."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.quantization.calibration.histogram import Range

_APART = 16.0
"""Ratio of the ranges at which the smaller keeps four bits."""
MOVES = ("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that only move values and keep their scale."""


def heads_apart(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Return the Concat nodes of very different tensors that only outputs read, and the nodes that move their values.

    Returns:
        The reason by node. Float costs no time there, because no later node computes on them.
    """
    found = dict[str, str]()
    for node in model.graph:
        if node.op_type != "Concat" or not (ratio := _ratio(node, ranges)) >= _APART:
            continue
        moved, computed = _behind(node)
        if not computed:
            reason = f"it joins tensors whose ranges differ {ratio:.0f} times, into an output"
            found |= {n.name or "": reason for n in (node, *moved)}
    return found


def inner_apart(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Return the Concat and Add nodes of very different tensors, and the nodes that read them: the reason by node."""
    found = dict[str, str]()
    for node in model.graph:
        if node.op_type not in ("Concat", "Add") or not (ratio := _ratio(node, ranges)) >= _APART:
            continue
        moved, computed = _behind(node)
        if computed:
            reason = f"{node.name} joins tensors whose ranges differ {ratio:.0f} times"
            found |= {n.name or "": reason for n in (node, *moved, *computed)}
    return found


def before_softmax(model: ir.Model) -> set[str]:
    """Return the tensors that a Softmax reads directly, through sums or through selections: the places of masks."""
    waiting = [v for n in model.graph if n.op_type in ("Softmax", "LogSoftmax") for v in n.inputs[:1] if v is not None]
    found = set[ir.Value]()
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if value in found:
            continue
        found.add(value)
        if producer is not None and producer.op_type in (*MOVES, "Add", "Where"):
            waiting += [v for v in producer.inputs if v is not None]
    return {value.name or "" for value in found}


def _ratio(node: ir.Node, ranges: Mapping[str, Range]) -> float:
    sizes = [(_size(value, ranges), value.const_value is not None) for value in node.inputs if value is not None]
    known = [(size, constant) for size, constant in sizes if size]
    if len(known) < 2 or (node.op_type == "Add" and min(known)[1]):
        return 1.0  # the loss of a small bias does not matter
    return max(known)[0] / min(known)[0]


def _size(value: ir.Value, ranges: Mapping[str, Range]) -> float:
    if value.const_value is not None and value.const_value.dtype is ir.DataType.FLOAT:
        array = value.const_value.numpy()
        return float(np.abs(array).max()) if array.size else 0.0
    found = ranges.get(value.name or "")
    return 0.0 if found is None else max(-found.low, found.high)


def _behind(node: ir.Node) -> tuple[list[ir.Node], list[ir.Node]]:
    """Return the nodes that move the outputs of `node`, and the nodes that compute on them."""
    moved, computed, waiting = dict[ir.Node, None](), dict[ir.Node, None](), [node]
    while waiting:
        for use in (use for value in waiting.pop().outputs for use in value.uses()):
            reader = use.node
            if reader in moved or reader in computed:
                continue
            if reader.op_type in MOVES and not reader.domain:
                moved[reader] = None
                waiting.append(reader)
            else:
                computed[reader] = None
    return list(moved), list(computed)
