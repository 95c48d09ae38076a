"""Channels of zeros for integer convolutions whose channels are no multiple of four.

        QuantizeLinear - DequantizeLinear - Conv   ->   QuantizeLinear - Pad - DequantizeLinear - Conv

ONNX Runtime's direct kernel for unsigned activations and signed weights (`MlasConvSym`) takes four channels at a time.
For other numbers, such as the three of a picture, it copies every window before a product. A fourth channel of zeros
costs less than those copies where the window is small, and adds nothing to any sum.

Only inputs of the model that come channel by channel get zeros. Inside a graph the runtime keeps integers pixel by
pixel, and a Pad of the last axis copies one pixel at a time: with a picture of 160 x 160 pixels in that order, a
MobileNetV1 was 0.83 times as fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.scales.reading import only_user

AT_ONCE = 4
"""Channels that the kernel takes at a time."""
LEAST_OUTPUTS = 16
"""Output channels from which the kernel is used."""
MOST_ADDED = 32
"""Products with zeros per output number, up to which the direct kernel is the faster one: measured with windows of
1 x 1 to 16 x 16 and 1 to 30 channels."""

_FIRST_OPSET = 11
"""The first opset in which Pad has its numbers as inputs."""
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")
_ELEMENTWISE = frozenset(("Add", "Cast", "Clip", "Div", "Identity", "Mul", "QuantizeLinear", "Sub"))


@dataclass(frozen=True)
class _Read:
    """The integers that a convolution reads, as values: activations with their zero point, and the weight."""

    integers: ir.Value
    zero: ir.Value
    weight: ir.Value


def unaligned_convolutions(model: ir.Model) -> list[ir.Node]:
    """Return integer convolutions of the main graph, in QDQ or QOperator form, that zeros would speed up."""
    if model.graph.opset_imports.get("", 0) < _FIRST_OPSET:
        return []
    return [node for node in model.graph if (read := _read(node)) is not None and _added(node, read)]


def align_channels(model: ir.Model, nodes: Sequence[ir.Node]) -> None:
    """Add channels of zeros to the inputs and weights of `nodes` from `unaligned_convolutions`, in place.

    Outputs are equal: a zero is stored as the zero point, and weights have the zero point 0.
    """
    writer = NodeWriter(model, "aligned")
    for node in nodes:
        read = _read(node)
        assert read is not None
        weight, count = _array(read.weight), _added(node, read)
        around = [(0, 0)] * weight.ndim
        around[1] = (0, count)
        wide = writer.constant(np.pad(weight, around), weight.dtype.type)
        writer.anchor = node
        pads = writer.constant([0] * weight.ndim + [0, count] + [0] * (weight.ndim - 2))
        padded = writer("Pad", read.integers, pads, read.zero)
        if node.op_type == "QLinearConv":
            node.replace_input_with(0, padded)
            node.replace_input_with(3, wide)
        else:
            for slot, integers in ((0, padded), (1, wide)):
                node.replace_input_with(slot, _dequantized(writer, node.inputs[slot], integers))


def align_all(model: ir.Model) -> list[str]:
    """Add channels of zeros where they speed a convolution up, in place, and return the names of the convolutions."""
    nodes = unaligned_convolutions(model)
    align_channels(model, nodes)
    if nodes:
        common.RemoveUnusedNodesPass()(model)
    return [node.name or "" for node in nodes]


def _dequantized(writer: NodeWriter, value: ir.Value | None, integers: ir.Value) -> ir.Value:
    """Write the DequantizeLinear of `value` again for other integers."""
    before = None if value is None else value.producer()
    assert before is not None
    axis = before.attributes.get_int("axis", 1)
    return writer("DequantizeLinear", integers, *before.inputs[1:], kind=ir.DataType.FLOAT, axis=axis)


def _added(node: ir.Node, read: _Read) -> int:
    """Return the number of channels that the convolution lacks; 0 where zeros would not speed it up."""
    outputs, channels, *window = _array(read.weight).shape
    missing = -channels % AT_ONCE
    alone = node.attributes.get_int("group", 1) == 1 and len(window) == 2
    fits = outputs >= LEAST_OUTPUTS and missing * int(np.prod(window)) <= MOST_ADDED
    return missing if alone and fits else 0


def _read(node: ir.Node) -> _Read | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "QLinearConv":
        return _signed(*(node.inputs[slot] for slot in (0, 2, 3, 5)))
    if node.op_type != "Conv" or not _becomes_integers(node.outputs[0]):
        return None
    pairs = [None if value is None else value.producer() for value in node.inputs[:2]]
    if any(p is None or p.op_type != "DequantizeLinear" or len(p.inputs) < 3 for p in pairs):
        return None
    activations, weights = (pair.inputs for pair in pairs if pair is not None)
    return _signed(activations[0], activations[2], weights[0], weights[2])


def _signed(
    integers: ir.Value | None, zero: ir.Value | None, weight: ir.Value | None, weight_zero: ir.Value | None
) -> _Read | None:
    """Return the values if activations are unsigned with one zero point, and weights signed and symmetric."""
    stored, zeros, zero_point = constant_of(weight), constant_of(weight_zero), constant_of(zero)
    if integers is None or zero is None or weight is None or stored is None or zero_point is None:
        return None
    if zero_point.dtype is not ir.DataType.UINT8 or zero_point.size != 1 or stored.dtype is not ir.DataType.INT8:
        return None
    if not _is_input(integers) or (zeros is not None and zeros.numpy().any()):
        return None
    return _Read(integers, zero, weight)


def _is_input(value: ir.Value | None) -> bool:
    """Return whether a value is an input of the model, or computed from one element by element."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in _ELEMENTWISE:
            return False
        value = next((v for v in node.inputs if v is not None and constant_of(v) is None), None)
    return value is not None


def _becomes_integers(value: ir.Value) -> bool:
    """Return whether only a QuantizeLinear reads a value, behind an activation function or not."""
    reader = only_user(value)
    if reader is not None and reader.op_type in _ACTIVATIONS:
        reader = only_user(reader.outputs[0])
    return reader is not None and reader.op_type == "QuantizeLinear"


def _array(value: ir.Value) -> np.ndarray:
    tensor = constant_of(value)
    assert tensor is not None
    return tensor.numpy()
