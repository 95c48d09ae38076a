"""Intermediate tensors for the comparison of student and teacher, spread over the depth of the graph."""

from collections.abc import Sequence

import onnx_ir as ir

from onnxopt.graph.shapes import with_types

MOST = 4
_JOINS = ("Add", "Sum")


def common_features(student: ir.Model, teacher: ir.Model, most: int = MOST) -> tuple[str, ...]:
    """Return names of values that both graphs compute and that end a block, in graph order; () where there are none.

    Ends of residual blocks are taken where there are some, else outputs of layers. A student that was made from its
    teacher by passes keeps these names. Only values of rank 3 or 4 are taken, whose channels alone may differ.
    """
    one, other = with_types(student), with_types(teacher)
    known: dict[str | None, ir.Value] = {v.name: v for node in other.graph for v in node.outputs if v.name}
    outputs = {v.name for v in one.graph.outputs}
    both = [
        (node, value)
        for node in one.graph
        for value in node.outputs[:1]
        if value.name in known and value.name not in outputs and _alike(value, known[value.name])
    ]
    joins = [_activated(value, known) for node, value in both if node.op_type in _JOINS and _two_branches(node)]
    layers = [value for node, value in both if node.op_type in ("Conv", "MatMul", "Gemm")]
    return _spread([v.name or "" for v in (joins or layers)], most)


def _alike(value: ir.Value, other: ir.Value) -> bool:
    if value.dtype is None or value.dtype != other.dtype or value.shape is None or other.shape is None:
        return False
    return len(value.shape) == len(other.shape) and len(value.shape) in (3, 4)


def _two_branches(node: ir.Node) -> bool:
    return sum(v is not None and v.const_value is None and v.producer() is not None for v in node.inputs) > 1


def _activated(value: ir.Value, known: dict[str | None, ir.Value]) -> ir.Value:
    """Return the value after the activation that follows a sum, where it is the only use."""
    users = list(value.uses())
    if len(users) == 1 and users[0].node.op_type == "Relu" and users[0].node.outputs[0].name in known:
        return users[0].node.outputs[0]
    return value


def _spread(names: Sequence[str], most: int) -> tuple[str, ...]:
    if len(names) <= most:
        return tuple(dict.fromkeys(names))
    step = len(names) / most
    return tuple(dict.fromkeys(names[int((i + 1) * step) - 1] for i in range(most)))
