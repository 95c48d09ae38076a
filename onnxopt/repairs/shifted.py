"""Conversion between int8 and uint8: integers and zero points shift by 128, so represented numbers do not change."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of, set_weight
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.repairs.integer_values import BYTES, Integers

_SHIFT = 128


def shift(model: ir.Model, chosen: Sequence[Integers]) -> None:
    """Convert integers of `model` to the other type, in place; none of them may have an obstacle."""
    writer = NodeWriter(model, "repair")
    for integers in chosen:
        for node, slot in integers.ports:
            if slot >= len(node.inputs):
                node.resize_inputs(slot + 1)
            node.replace_input_with(slot, _constant(writer, integers.zero(node, slot)))
            # The output type of QuantizeLinear is now the type of its zero point.
            node.attributes.pop("output_dtype", None)
        for value in integers.values:
            tensor = constant_of(value)
            if tensor is None:
                value.type = ir.TensorType(other_type(integers.dtype))
            elif value.is_initializer():
                set_weight(value, shifted(tensor.numpy()))
            else:
                value.replace_all_uses_with(_constant(writer, tensor.numpy()))


def shifted(array: np.ndarray) -> np.ndarray:
    """Return int8 as uint8 or uint8 as int8, each number shifted by 128."""
    other = np.uint8 if array.dtype == np.int8 else np.int8
    return np.asarray((np.ascontiguousarray(array).view(np.uint8) ^ _SHIFT).view(other)).reshape(array.shape)


def other_type(dtype: ir.DataType) -> ir.DataType:
    """Return uint8 for int8 and int8 for uint8."""
    return BYTES[1 - BYTES.index(dtype)]


def _constant(writer: NodeWriter, array: np.ndarray) -> ir.Value:
    new = shifted(array)
    return writer.constant(new, new.dtype.type)
