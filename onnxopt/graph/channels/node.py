"""Common helpers of the rules: inputs, attributes, and broadcasting of a node."""

import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes, Vector
from onnxopt.graph.channels.trace import Frozen, Trace


def operand(node: ir.Node, slot: int) -> ir.Value:
    """Return a required input."""
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None:
        raise Frozen(f"{node.op_type} {node.name} lacks an input")
    return value


def optional(node: ir.Node, slot: int) -> ir.Value | None:
    """Return an optional input; None if it is absent."""
    return node.inputs[slot] if slot < len(node.inputs) else None


def why(node: ir.Node, what: str) -> str:
    """Return a reason that names the node."""
    return f"{node.op_type} {node.name} {what}"


def freeze_rest(trace: Trace, axes: Axes, kept: tuple[int, ...], reason: str) -> None:
    """Freeze all axes of a value but the `kept` ones."""
    for axis, vector in enumerate(axes):
        if axis not in kept:
            trace.labels.freeze(vector, reason)


def broadcast(trace: Trace, node: ir.Node, operands: list[tuple[Axes, tuple[int, ...]]]) -> Axes:
    """Unite operands as numpy broadcasts them; an axis of size one is not united with the others."""
    rank = max((len(shape) for _, shape in operands), default=0)
    result: list[Vector | None] = []
    for back in range(rank, 0, -1):
        here = [(axes[-back], shape[-back]) for axes, shape in operands if len(shape) >= back]
        size = max(n for _, n in here)
        vectors = [v for v, n in here if n == size] if size > 1 else []
        for vector in (v for v, n in here if n != size or size == 1):
            trace.labels.freeze(vector, why(node, "broadcasts it"))
        result.append(
            trace.labels.same(vectors, why(node, "joins it with channels that cannot be cut")) if vectors else None
        )
    return tuple(result)
