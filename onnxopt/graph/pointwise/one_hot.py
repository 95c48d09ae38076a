"""Products of one-hot vectors with a matrix, as rows of the matrix.

        Expand - Equal - Cast - MatMul   ->   Gather
        OneHot - MatMul                  ->   Gather

Exports of JAX and TensorFlow write the lookup of an embedding as a product, most of whose terms are zero. A number
outside the range gives zeros, as before. A matrix that others read too stays: it would be stored twice.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.scales.reading import constant_numbers, only_user

_KINDS = (ir.DataType.INT32, ir.DataType.INT64)


@dataclass(frozen=True)
class _Codes:
    """Whole numbers that one-hot vectors stand for.

    Attributes:
        numbers: the numbers, with a last axis of one element.
        kind: their type.
        shape: shape to which they are expanded before; None if they are not.
    """

    numbers: ir.Value
    kind: ir.DataType
    shape: ir.Value | None


def write_gathers(model: ir.Model) -> list[str]:
    """Replace products of one-hot vectors in the main graph in place, and return the names of the products."""
    writer, names = NodeWriter(model, "lookup"), list[str]()
    for node in list(model.graph):
        if node.op_type != "MatMul" or node.domain or any(v is None for v in node.inputs):
            continue
        given, tensor = node.inputs[1], constant_of(node.inputs[1])
        if given is None or tensor is None or len(tensor.shape) != 2 or only_user(given) is not node:
            continue
        codes = _codes(node.inputs[0], int(tensor.shape.numpy()[0]))
        table = None if codes is None else constant_numbers(given)
        if codes is None or table is None:
            continue
        writer.anchor = node
        result = _looked_up(writer, codes, table)
        names.append(node.name or node.outputs[0].name or "")
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [], list(node.outputs), [result])
    if names:
        common.RemoveUnusedNodesPass()(model)
    return names


def _codes(value: ir.Value | None, count: int) -> _Codes | None:
    """Return the numbers of one-hot vectors of `count` elements; None for other values."""
    cast = None if value is None else value.producer()
    if cast is None or cast.op_type != "Cast" or cast.attributes.get_int("to", 0) != ir.DataType.FLOAT:
        return None
    equal = None if cast.inputs[0] is None else cast.inputs[0].producer()
    if equal is None or equal.op_type != "Equal" or equal.domain:
        return None
    for place in (0, 1):
        ramp, numbers = constant_of(equal.inputs[place]), equal.inputs[1 - place]
        if ramp is None or numbers is None or ramp.dtype not in _KINDS:
            continue
        if ramp.shape.numpy()[-1:] != (count,) or not np.array_equal(ramp.numpy().ravel(), np.arange(count)):
            continue
        found = _single(numbers, ramp.dtype)
        return None if found is None or len(ramp.shape) > _axes(found.numbers)[0] else found
    return None


def _single(value: ir.Value, kind: ir.DataType) -> _Codes | None:
    """Return the numbers behind a value whose last axis has one element, or had before it was expanded."""
    if _axes(value)[1] == 1:
        return _Codes(value, kind, None)
    node = value.producer()
    if node is None or node.op_type != "Expand" or node.domain or None in node.inputs:
        return None
    source, shape = node.inputs
    if source is None or shape is None or _axes(source)[1] != 1:
        return None
    return _Codes(source, kind, shape)


def _axes(value: ir.Value) -> tuple[int, int]:
    """Return the number of axes of a value and the size of the last one; 0 for unknown ones."""
    if value.shape is not None and len(value.shape):
        last = value.shape[-1]
        return len(value.shape), last if isinstance(last, int) else 0
    node = value.producer()
    if node is None or node.op_type != "Reshape" or node.domain or len(node.inputs) < 2:
        return 0, 0
    shape = constant_of(node.inputs[1])
    if shape is None or shape.size == 0:
        return 0, 0
    return shape.size, max(int(shape.numpy()[-1]), 0)


def _looked_up(writer: NodeWriter, codes: _Codes, table: np.ndarray) -> ir.Value:
    numbers, dtype = codes.numbers, codes.kind.numpy().type
    if codes.shape is not None:
        others = writer("Slice", codes.shape, writer.constant([0]), writer.constant([-1]))
        shape = writer("Concat", others, writer.constant([1]), axis=0)
        numbers = writer("Expand", numbers, shape)
    numbers = writer("Squeeze", numbers, writer.constant([-1]))
    inside = writer(
        "And",
        writer("GreaterOrEqual", numbers, writer.constant(0, dtype), kind=ir.DataType.BOOL),
        writer("Less", numbers, writer.constant(len(table), dtype), kind=ir.DataType.BOOL),
    )
    place = writer("Where", inside, numbers, writer.constant(len(table), dtype), kind=codes.kind)
    rows = writer.constant(np.vstack([table, np.zeros_like(table[:1])]), np.float32)
    return writer("Gather", rows, place, axis=0)
