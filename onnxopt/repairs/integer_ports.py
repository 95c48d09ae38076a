"""Inputs and outputs of operators that hold 8-bit integers with a zero point."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Port:
    """An input or output of an operator that holds integers, and the input with its zero point."""

    slot: int
    zero: int | None
    output: bool = False


Groups = tuple[tuple[Port, ...], ...]
"""Ports of one node; all ports of a group must have the same type."""


def _in(slot: int, zero: int | None) -> Port:
    return Port(slot, zero)


def _out(zero: int | None, slot: int = 0) -> Port:
    return Port(slot, zero, output=True)


_UNARY: Groups = ((_in(0, 2), _out(4)),)
_BINARY: Groups = ((_in(0, 2), _in(3, 5), _out(7)),)
_PRODUCT: Groups = ((_in(0, 2),), (_in(1, 3),))
_PORTS: Mapping[str, Groups] = {
    "QuantizeLinear": ((_out(2),),),
    "DequantizeLinear": ((_in(0, 2),),),
    "QLinearConv": ((_in(0, 2), _out(7)), (_in(3, 5),)),
    "QLinearMatMul": ((_in(0, 2), _out(7)), (_in(3, 5),)),
    "QGemm": ((_in(0, 2), _out(8)), (_in(3, 5),)),
    "MatMulInteger": _PRODUCT,
    "ConvInteger": _PRODUCT,
    "DynamicQuantizeMatMul": ((_in(1, 3),),),
    "MatMulIntegerToFloat": ((_in(0, 4),), (_in(1, 5),)),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _BINARY),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearReduceMean"), _UNARY),
    **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearAveragePool"), _UNARY),
    "Pad": ((_in(0, 2), _out(None)),),
    "QLinearWhere": ((_in(1, 3), _in(4, 6), _out(8)),),
}
"""Operators that read or write integers with a zero point, by the standard's and the runtime's signatures.

The constant of a Pad moves as a zero point does.

The standard lets inputs and outputs of products differ in type; the runtime has kernels only for equal ones.
"""

_MOVES = (
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Identity", "MaxPool", "Expand",
    "Tile", "DepthToSpace", "SpaceToDepth", "Split", "Concat",
)  # fmt: skip
"""Operators that only move elements of their first input, or take a maximum of them; Concat moves all inputs."""

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_QGEMM_ZERO = 8
"""Optional input of QGemm; without it the output is float."""


def port_groups(node: ir.Node) -> Groups:
    """Return the ports of a node whose integers can be shifted."""
    if node.domain not in _DOMAINS:
        return ()
    if node.op_type == "QLinearConcat":
        count = (len(node.inputs) - 2) // 3
        return ((*(_in(2 + 3 * i, 4 + 3 * i) for i in range(count)), _out(1)),)
    if node.op_type == "QGemm" and (len(node.inputs) <= _QGEMM_ZERO or node.inputs[_QGEMM_ZERO] is None):
        return ((_in(0, 2),), (_in(3, 5),))
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") != "constant":
        return ((_in(0, None), _out(None)),)
    if node.op_type in _PORTS:
        return _PORTS[node.op_type]
    if node.op_type in _MOVES or _is_nearest(node):
        inputs = range(len(node.inputs)) if node.op_type == "Concat" else range(1)
        outputs = range(len(node.outputs)) if node.op_type == "Split" else range(1)
        return ((*(_in(i, None) for i in inputs), *(_out(None, i) for i in outputs)),)
    return ()


def value_at(node: ir.Node, port: Port) -> ir.Value | None:
    """Return the value at a port; None if it is absent."""
    values = node.outputs if port.output else node.inputs
    return values[port.slot] if port.slot < len(values) else None


def zero_at(node: ir.Node, slot: int) -> ir.Value | None:
    """Return the zero point; None if it is absent, which means 0."""
    return node.inputs[slot] if slot < len(node.inputs) else None


def reads(node: ir.Node, slot: int) -> bool:
    """Return whether an input of a node holds integers that can be shifted."""
    return any(p.slot == slot and not p.output for group in port_groups(node) for p in group)


def writes(node: ir.Node, value: ir.Value) -> bool:
    """Return whether an output of a node holds integers that can be shifted."""
    return any(p.output and value_at(node, p) is value for group in port_groups(node) for p in group)


def _is_nearest(node: ir.Node) -> bool:
    """Return whether a Resize only repeats or drops elements, without mixing them or adding others."""
    mode = node.attributes.get_string("mode", "nearest")
    place = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    return node.op_type == "Resize" and mode == "nearest" and place != "tf_crop_and_resize"
