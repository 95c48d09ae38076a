"""Stored integers before DequantizeLinear, and those that the runtime converts to floats in every run."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.measure.runtime.session import Runtime, optimized_model

_CASTABLE = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32)


@dataclass(frozen=True)
class DequantizedConstant:
    """Stored integers with the scale and zero point of one DequantizeLinear.

    Attributes:
        node: the DequantizeLinear.
        scale: scale per tensor or channel, in a shape that broadcasts to the integers.
        zero: zero point in such a shape; None for 0.
    """

    node: ir.Node
    scale: np.ndarray
    zero: np.ndarray | None

    def as_floats(self, writer: NodeWriter) -> ir.Value:
        """Write nodes that compute the same floats, bit for bit; the runtime computes them when it loads the model."""
        writer.anchor = self.node
        floats = writer("Cast", self.node.inputs[0], kind=ir.DataType.FLOAT, to=int(ir.DataType.FLOAT))
        if self.zero is not None and self.zero.any():
            floats = writer("Sub", floats, writer.constant(self.zero.astype(np.float32), np.float32))
        return writer("Mul", floats, writer.constant(self.scale, np.float32))

    def floats(self) -> np.ndarray:
        """Return the dequantized floats, bit for bit."""
        tensor = constant_of(self.node.inputs[0])
        assert tensor is not None
        steps = tensor.numpy().astype(np.int64) - (0 if self.zero is None else self.zero)
        return np.asarray(steps.astype(np.float32) * self.scale)


def dequantized_constant(node: ir.Node) -> DequantizedConstant | str:
    """Return the inputs of a DequantizeLinear, or the reason why it cannot be rewritten."""
    tensors = [None if value is None else constant_of(value) for value in node.inputs]
    if any(t is None for t, value in zip(tensors, node.inputs, strict=True) if value is not None):
        return "its scale or zero point is computed"
    integers, scale = tensors[0], tensors[1]
    assert integers is not None
    assert scale is not None
    if integers.dtype not in _CASTABLE or scale.dtype is not ir.DataType.FLOAT:
        return f"its integers are of type {integers.dtype.name}"
    if node.attributes.get_int("block_size", 0):
        return "it has a scale for each block"
    rank, scales = len(integers.shape), scale.numpy()
    axis = node.attributes.get_int("axis", 1)
    shape = () if scales.size == 1 else tuple(-1 if i == axis % max(rank, 1) else 1 for i in range(rank))
    zero = tensors[2] if len(tensors) > 2 else None
    return DequantizedConstant(
        node, scales.reshape(shape), None if zero is None else zero.numpy().astype(np.int64).reshape(shape)
    )


def left_in_graph(model: ir.Model) -> list[ir.Node]:
    """Return the DequantizeLinear nodes of stored integers that remain in the runtime's optimized graph.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """
    nodes = [n for n in model.graph if n.op_type == "DequantizeLinear" and constant_of(n.inputs[0]) is not None]
    if not nodes:
        return []
    left = set[str | None]()
    for node in optimized_model(model, Runtime()).graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].is_initializer():
            left.add(node.inputs[0].name)
    return [node for node in nodes if node.inputs[0] is not None and node.inputs[0].name in left]
