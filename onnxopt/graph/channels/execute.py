"""Execute a data movement on the positions of an axis, and read the new positions off the result."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes, Vector
from onnxopt.graph.channels.trace import Frozen, Trace

Move = Callable[[np.ndarray], np.ndarray]


def execute(trace: Trace, node: ir.Node, move: Move, part: int | None = None) -> Axes:
    """Apply `move` to the positions along each labelled axis of the first input; read the labels off the result.

    Args:
        trace: the labels known so far.
        node: the data-movement node.
        move: executes the movement on an array.
        part: the one to cut of several axes that an axis is split into; None leaves it to the trace.
    """
    value = node.inputs[0]
    if value is None:
        raise Frozen(f"{node.op_type} {node.name} lacks an input")
    shape, result = trace.shape(value), dict[int, Vector]()
    rank = len(trace.shape(node.outputs[0]))
    for axis, vector in enumerate(trace.of(value)):
        if vector is None:
            continue
        line = np.arange(shape[axis], dtype=np.int32).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        where, labels = _read_off(trace, node, move(np.broadcast_to(line, shape)), vector, part)
        if where is None:
            continue
        if where in result:
            reason = f"{node.op_type} {node.name} merges two axes"
            one, other = result[where], labels
            if trace.labels.are_copies(one):
                one, other = other, one
            trace.labels.freeze(other, reason)
            # Copies do not prevent the removal of the channels that they are repeated for.
            if not trace.labels.are_copies(other) or trace.labels.are_copies(one):
                trace.labels.freeze(one, reason)
            labels = one
        result[where] = labels
    return tuple(result.get(i) for i in range(rank))


def _read_off(
    trace: Trace, node: ir.Node, moved: np.ndarray, vector: Vector, part: int | None
) -> tuple[int | None, Vector]:
    """Return the axis along which the positions vary, and its labels; `part` or the trace chooses one of several."""
    if moved.size == 0:
        raise Frozen(f"{node.op_type} {node.name} leaves nothing")
    varying = [i for i in range(moved.ndim) if moved.shape[i] > 1 and (moved != moved.take([0], i)).any()]
    if not varying:
        trace.labels.freeze(vector, f"{node.op_type} {node.name} picks one position of it")
        return None, vector
    if len(varying) > 1:
        named = trace.labels.roots(vector)[moved]
        distinct = [i for i in varying if (named != named.take([0], i)).any()]
        varying = distinct or varying
    if len(varying) == 1:
        rest = tuple(0 if i != varying[0] else slice(None) for i in range(moved.ndim))
        return varying[0], vector[moved[rest]]
    if part is None:
        part = varying[trace.part(node, vector, len(varying))]
    labels = []
    for index in range(moved.shape[part]):
        together = vector[np.unique(moved.take(index, part))]
        trace.labels.unite_all(together)
        labels.append(together[0])
    return part, np.array(labels)
