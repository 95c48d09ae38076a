"""Integer values of a quantized graph, in groups that must have the same type."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from scipy.cluster.hierarchy import DisjointSet

from onnxopt.graph.edit import constant_of
from onnxopt.repairs.integer_ports import port_groups, reads, value_at, writes, zero_at

BYTES = (ir.DataType.INT8, ir.DataType.UINT8)

_WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), (3,)),
    **dict.fromkeys(("MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), (1,)),
    **dict.fromkeys(("Conv", "ConvTranspose"), (1,)),
    **dict.fromkeys(("Gemm", "MatMul"), (0, 1)),
}
_BODIES = {"body", "then_branch", "else_branch"}
_MOVED = ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze", "DequantizeLinear")


@dataclass(frozen=True)
class Integers:
    """Integer values that must have the same type.

    Attributes:
        values: all of them.
        ports: their readers and writers with a zero point: node and input of the zero point.
        dtype: type of all values.
        obstacle: the reason why their type cannot change; "" if it can.
        constant: whether they are the same in every run.
        weight: whether a product uses them as its weight.
    """

    values: tuple[ir.Value, ...]
    ports: tuple[tuple[ir.Node, int], ...]
    dtype: ir.DataType
    obstacle: str
    constant: bool
    weight: bool

    @property
    def name(self) -> str:
        """The name of the first value, which identifies the group."""
        return self.values[0].name or ""

    @property
    def where(self) -> str:
        """The name of the node that computes them, or of the initializer."""
        node = self.values[0].producer()
        return (node.name if node is not None else "") or self.name

    def zero(self, node: ir.Node, slot: int) -> np.ndarray:
        """Return the zero point at a port."""
        tensor = constant_of(zero_at(node, slot))
        return np.zeros((), self.dtype.numpy()) if tensor is None else tensor.numpy()

    def magnitude(self) -> int:
        """Return the largest stored magnitude, as int8."""
        shift = 128 if self.dtype is ir.DataType.UINT8 else 0
        stored = [t.numpy().astype(np.int64) - shift for v in self.values if (t := constant_of(v)) is not None]
        return max((int(np.abs(array).max(initial=0)) for array in stored), default=0)


def integers_of(model: ir.Model) -> list[Integers]:
    """Return the integers of 8 bits in the main graph, in graph order."""
    nodes = [(node, groups) for node in model.graph if (groups := port_groups(node))]
    tied: DisjointSet[ir.Value] = DisjointSet()
    for node, groups in nodes:
        for group in groups:
            values = [value for port in group if (value := value_at(node, port)) is not None]
            for value in values:
                tied.add(value)
                tied.merge(values[0], value)
    members, ports = dict[ir.Value, list[ir.Value]](), dict[ir.Value, list[tuple[ir.Node, int]]]()
    for value in tied:
        members.setdefault(tied[value], []).append(value)
    for node, groups in nodes:
        for port in (port for group in groups for port in group):
            read = value_at(node, port)
            if read is not None and port.zero is not None:
                ports.setdefault(tied[read], []).append((node, port.zero))
    constants = _constants(model)
    found = []
    for key, together in members.items():
        at = tuple(ports.get(key, ()))
        dtype = next(_types(together, at), None)
        if dtype in BYTES:
            reasons = (*map(_obstacle, together), *(_zero_obstacle(node, slot) for node, slot in at))
            constant = all(value in constants for value in together)
            weight = constant and any(_is_weight(value) for value in together)
            found.append(Integers(tuple(together), at, dtype, next(filter(None, reasons), ""), constant, weight))
    return found


def reached(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Yield the readers of a value, through nodes that only move or dequantize it."""
    for node, slot in value.uses():
        if node.op_type in _MOVED and slot == 0:
            yield from reached(node.outputs[0])
        else:
            yield node, slot


def _constants(model: ir.Model) -> set[ir.Value]:
    """Return the values of the main graph that are the same in every run."""
    found = {v for v in model.graph.initializers.values() if not v.is_graph_input()}
    for node in model.graph:
        if all(value is None or value in found for value in node.inputs) and not node.attributes.keys() & _BODIES:
            found |= set(node.outputs)
    return found


def _types(values: list[ir.Value], ports: tuple[tuple[ir.Node, int], ...]) -> Iterator[ir.DataType]:
    for node, slot in ports:
        zero = zero_at(node, slot)
        tensor = constant_of(zero)
        if tensor is not None:
            yield tensor.dtype
        elif zero is not None and zero.dtype is not None:
            yield zero.dtype
        elif zero is None and node.op_type == "QuantizeLinear":
            kind = node.attributes.get_int("output_dtype", 0)
            yield ir.DataType(kind) if kind else ir.DataType.UINT8
    yield from (value.dtype for value in values if value.dtype is not None)


def _obstacle(value: ir.Value) -> str:
    if value.is_graph_output():
        return f"{value.name} is an output of the model"
    if value.is_graph_input():
        return f"{value.name} is an input of the model"
    node = value.producer()
    if node is not None and node.op_type != "Constant" and not writes(node, value):
        return f"{node.op_type} makes it, whose integers have no other type"
    for user, slot in value.uses():
        if value.graph is not None and user.graph is not value.graph:
            return f"{user.op_type} reads it inside a branch or a loop"
        if not reads(user, slot):
            return f"{user.op_type} reads it, which takes no other type"
    return ""


def _zero_obstacle(node: ir.Node, slot: int) -> str:
    zero = zero_at(node, slot)
    if zero is not None and (constant_of(zero) is None or zero.is_graph_input()):
        return f"the zero point of {node.name or node.op_type} is computed"
    if node.attributes.get_int("block_size", 0):
        return f"{node.name or node.op_type} has a scale for each block"
    return ""


def _is_weight(value: ir.Value) -> bool:
    return any(slot in _WEIGHT_SLOTS.get(node.op_type, ()) for node, slot in reached(value))
