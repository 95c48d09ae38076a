"""Q/DQ pairs between operators that compute in float."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import opset_of
from onnxopt.pipeline import Skip
from onnxopt.quantization.affine import LIMITS
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.repairs.unused import drop_dead
from onnxopt.target import Target

_FIRST_OPSET = 11
"""The first opset in which Clip has its bounds as inputs."""
_BOUNDED = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""Smallest and largest output of operators."""


class FloatPairs(Repair):
    """Remove conversions to integers and back that no integer kernel reads; a Clip keeps their clipping.

        Gelu -> QuantizeLinear -> DequantizeLinear -> LayerNormalization   ->   Gelu -> Clip -> LayerNormalization

    Each value changes by at most half a step of its scale.
    """

    code: ClassVar[str] = "CHK407"
    does: ClassVar[str] = "leave out conversions that no integer kernel reads"
    exact: ClassVar[bool] = False

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the pairs that remain in the runtime's graph with floats on both sides."""
        pairs = [node for node in model.graph if node.op_type == "QuantizeLinear" and _readers(node)]
        if not pairs:
            return Faults()
        lonely = set(_lonely(optimized_model(model, Runtime())))
        nodes = [n for n in pairs if all(reader.outputs[0].name in lonely for reader in _readers(n))]
        seen = [(node, _obstacle(node, opset_of(model))) for node in nodes]
        good = [node for node, why in seen if not why]
        left = tuple(Skip(_called(node), why) for node, why in seen if why)
        return Faults(tuple(n.outputs[0].name or "" for n in good), tuple(map(_called, good)), left)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Replace each pair by a Clip; remove it if no value leaves the range."""
        writer, sites = NodeWriter(model, "repair"), set(found.sites)
        for node in [n for n in model.graph if n.outputs[0].name in sites]:
            source, (low, high) = node.inputs[0], _range(node)
            assert source is not None
            before = source.producer()
            least, most = _BOUNDED.get(before.op_type if before is not None else "", (-np.inf, np.inf))
            readers = _readers(node)
            if low > least or high < most:
                writer.anchor = node
                bounds = (writer.constant(float(bound), np.float32) for bound in (low, high))
                source = writer("Clip", source, *bounds)
            for reader in readers:
                reader.outputs[0].replace_all_uses_with(source)
            drop_dead(model, readers)


def _lonely(optimized: ir.Model) -> Iterator[str]:
    """Yield the names, which the runtime keeps, of floats made of integers that only DequantizeLinear reads."""
    for node in optimized.graph:
        output = node.outputs[0]
        if node.op_type == "QuantizeLinear" and not output.is_graph_output():
            users = [user for user, _ in output.uses()]
            if all(user.op_type == "DequantizeLinear" for user in users):
                yield from (user.outputs[0].name or "" for user in users)


def _readers(node: ir.Node) -> list[ir.Node]:
    """Return the DequantizeLinear nodes that read a pair's integers; none where something else does."""
    users = [user for user, _ in node.outputs[0].uses()]
    good = users and all(user.op_type == "DequantizeLinear" and user.graph is node.graph for user in users)
    return list(users) if good and not node.outputs[0].is_graph_output() else []


def _obstacle(node: ir.Node, opset: int) -> str:
    scale, zero = constant_of(node.inputs[1]), constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if opset < _FIRST_OPSET:
        return f"opset {opset} has no Clip with bounds as inputs"
    if scale is None or scale.size != 1 or scale.dtype is not ir.DataType.FLOAT:
        return "its scale is computed, or one per channel"
    if zero is None or zero.size != 1 or zero.dtype.name.lower() not in LIMITS:
        return "its zero point is computed, or of no integer type"
    for reader in _readers(node):
        tensors = [constant_of(value) for value in reader.inputs[1:3]]
        if len(tensors) != 2 or any(t is None for t in tensors):
            return "it is read with another scale"
        if any(t.tobytes() != mine.tobytes() for t, mine in zip(tensors, (scale, zero), strict=True) if t is not None):
            return "it is read with another scale"
        if reader.outputs[0].is_graph_output():
            return f"{reader.outputs[0].name} is an output of the model"
    return ""


def _range(node: ir.Node) -> tuple[np.float32, np.float32]:
    """Return the smallest and the largest float that a pair gives."""
    scale, zero = constant_of(node.inputs[1]), constant_of(node.inputs[2])
    assert scale is not None
    assert zero is not None
    step, shift = np.float32(scale.numpy().reshape(-1)[0]), int(zero.numpy().reshape(-1)[0])
    low, high = LIMITS[zero.dtype.name.lower()]
    return np.float32(low - shift) * step, np.float32(high - shift) * step


def _called(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
