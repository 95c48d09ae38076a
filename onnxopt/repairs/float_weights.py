"""Float weights whose integers are stored, or could be stored."""

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of, set_weight
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.model_file.streamed import array_of
from onnxopt.pipeline import Skip
from onnxopt.quantization.affine import quantize
from onnxopt.repairs.fault import Faults, Purpose, Repair
from onnxopt.repairs.stored import DequantizedConstant, dequantized_constant
from onnxopt.target import Target

_LEAST_ELEMENTS = 256
"""Smallest weight in elements: below, names and nodes take more bytes than are saved."""
_STORABLE = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)


class QuantizedAtLoading(Repair):
    """Store the integers of weights that are stored as floats and quantized by a node of the graph.

        DequantizeLinear(QuantizeLinear(W float32))   ->   DequantizeLinear(W int8)

    Exporters write such files, as large as the float model, for networks trained with simulated quantization.
    """

    code: ClassVar[str] = "CHK408"
    does: ClassVar[str] = "store the integers"
    purpose: ClassVar[Purpose] = Purpose.SIZE

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the QuantizeLinear nodes of stored floats."""
        nodes = [n for n in model.graph if n.op_type == "QuantizeLinear" and constant_of(n.inputs[0]) is not None]
        seen = [(node, _obstacle(node)) for node in nodes if constant_of(node.inputs[0]).size >= _LEAST_ELEMENTS]  # type: ignore[union-attr]
        good = [node for node, why in seen if not why]
        left = tuple(Skip(node.inputs[0].name or "", why) for node, why in seen if why)  # type: ignore[union-attr]
        names = tuple(node.inputs[0].name or "" for node in good)  # type: ignore[union-attr]
        return Faults(tuple(node.outputs[0].name or "" for node in good), names, left)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Quantize with the runtime's rounding."""
        sites = set(found.sites)
        for node in [n for n in model.graph if n.outputs[0].name in sites]:
            old, value = node.outputs[0], ir.Value(name=node.outputs[0].name)
            set_weight(value, _integers(node))
            old.replace_all_uses_with(value)
            model.graph.remove(node, safe=True)
            model.graph.register_initializer(value)


class FloatCopies(Repair):
    """Compute a float weight from stored integers that represent the same numbers.

        Gather(W float32), MatMul(DequantizeLinear(W int8))   ->   Gather(Mul(Cast(W int8), scale)), the same MatMul

    The runtime computes it once, when it loads the model.
    """

    code: ClassVar[str] = "CHK409"
    does: ClassVar[str] = "compute it from the integers when the model is loaded"
    purpose: ClassVar[Purpose] = Purpose.SIZE

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the float weights that are equal to the output of a DequantizeLinear."""
        copies = _copies(model)
        return Faults(tuple(copies), tuple(copies))

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Replace each by arithmetic on the integers."""
        writer, copies = NodeWriter(model, "repair"), _copies(model)
        for name in found.sites:
            floats = copies[name].as_floats(writer)
            model.graph.initializers[name].replace_all_uses_with(floats)
            made = floats.producer()
            assert made is not None
            _to_front(model, made)


def _obstacle(node: ir.Node) -> str:
    floats = node.inputs[0]
    assert floats is not None
    tensors = [constant_of(value) for value in node.inputs]
    if len(tensors) < 3 or any(tensor is None for tensor in tensors):
        return "its scale or zero point is computed, or it has no zero point"
    if tensors[2] is not None and tensors[2].dtype not in _STORABLE:
        return f"its integers are of type {tensors[2].dtype.name}"
    if tensors[0] is not None and tensors[0].dtype is not ir.DataType.FLOAT:
        return f"it is of type {tensors[0].dtype.name}"
    if node.attributes.get_int("block_size", 0):
        return "it has a scale for each block"
    if len(floats.uses()) != 1 or floats.is_graph_output() or floats.is_graph_input():
        return "its floats are read by others too"
    return "its integers are an output of the model" if node.outputs[0].is_graph_output() else ""


def _integers(node: ir.Node) -> np.ndarray:
    floats, scale, zero = (constant_of(value).numpy() for value in node.inputs[:3])  # type: ignore[union-attr]
    axis = None if scale.size == 1 else node.attributes.get_int("axis", 1) % floats.ndim
    along = (scale.reshape(()), zero.reshape(())) if axis is None else (scale, zero)
    return quantize(floats, *along, zero.dtype.name, axis).astype(zero.dtype)


def _copies(model: ir.Model) -> dict[str, DequantizedConstant]:
    """Return float initializers by name, with the stored integers that represent the same numbers."""
    floats = dict[tuple[int, ...], list[tuple[str, ir.TensorProtocol]]]()
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        plain = tensor is not None and tensor.dtype is ir.DataType.FLOAT and tensor.size >= _LEAST_ELEMENTS
        if plain and value.uses() and not value.is_graph_output() and not value.is_graph_input():
            assert tensor is not None
            floats.setdefault(tuple(tensor.shape.numpy()), []).append((name, tensor))
    found = dict[str, DequantizedConstant]()
    for node in model.graph if floats else ():
        integers = constant_of(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        alike = [] if integers is None else floats.get(tuple(integers.shape.numpy()), [])
        what = dequantized_constant(node) if alike else ""
        if isinstance(what, DequantizedConstant):
            given = what.floats()
            found |= {name: what for name, floating in alike if np.array_equal(array_of(floating), given)}
    return found


def _to_front(model: ir.Model, last: ir.Node) -> None:
    """Move a chain of nodes on constants before all other nodes, which may read its result."""
    chain = [last]
    while (before := chain[-1].inputs[0]) is not None and (node := before.producer()) is not None:
        chain.append(node)
    for node in chain:
        model.graph.remove(node)
    model.graph.insert_before(model.graph[0], chain[::-1])
