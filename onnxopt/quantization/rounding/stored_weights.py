"""Float weights stored as int8 with a scale per channel.

Cast and Mul convert a weight back; ONNX Runtime folds them when it loads the file. It keeps a DequantizeLinear before a
convolution, and before a product that it does not fuse with it, and computes it in every run. So that is used only
after table look-ups, for the selected rows.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_tensor, tensor_in
from onnxopt.model_file.streamed import Latest, streamed_tensors

_SLOTS: Mapping[str, int] = MappingProxyType({"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0})
_LARGEST = 127


@dataclass(frozen=True)
class Storable:
    """A weight and the axis of its channels; `table` if rows are looked up in it and only these are converted back."""

    value: ir.Value
    axis: int
    table: bool

    def bytes_saved(self) -> int:
        """Return the bytes that int8 values and their scales save over the floats."""
        size, channels = tensor_in(self.value).size, int(tensor_in(self.value).shape.numpy()[self.axis])
        return 3 * size - 5 * channels


def storable_weights(
    model: ir.Model, least: int, exclude: Collection[str]
) -> tuple[dict[str, Storable], dict[str, str]]:
    """Return the weights of at least `least` elements that become smaller, and the reasons for the others, by name.

    Args:
        model: a model whose constants are initializers.
        least: fewest elements of a weight.
        exclude: names of nodes whose weights are not changed.
    """
    chosen, left = dict[str, Storable](), dict[str, str]()
    for name, value in model.graph.initializers.items():
        readers = {node.name for node, _ in value.uses()}
        if value.const_value is None or len(value.const_value.shape) < 2 or not readers:
            continue
        found = storable(value)
        if not readers.isdisjoint(exclude):
            left[name] = "excluded by name"
        elif isinstance(found, str):
            left[name] = found
        elif value.const_value.size < least or found.bytes_saved() <= 0:
            left[name] = f"it has fewer than {least} elements, or scales would take as much as is saved"
        else:
            chosen[name] = found
    return chosen, left


def storable(value: ir.Value) -> Storable | str:
    """Return the storage of a weight, or the reason why it has none."""
    tensor, uses = value.const_value, list(value.uses())
    if tensor is None or tensor.dtype is not ir.DataType.FLOAT or len(tensor.shape) < 2:
        return "it is not a float32 matrix or kernel"
    if value.is_graph_output() or value.is_graph_input():
        return "it is an input or output of the model"
    axes = {_axis(node, slot, len(tensor.shape)) for node, slot in uses}
    tables = {node.op_type == "Gather" for node, _ in uses}
    if None in axes or any(node.domain for node, _ in uses):
        return "an operator other than a convolution, product or table reads it"
    if len(axes) > 1 or len(tables) > 1:
        return "operators read it along different axes"
    axis = axes.pop()
    assert axis is not None
    return Storable(value, axis, tables.pop())


def store(graph: ir.Graph, weight: Storable, latest: Latest | None = None) -> None:
    """Store a weight as int8 in place; zeros stay exactly zero.

    Args:
        graph: the graph that has it.
        weight: the weight to store.
        latest: store of the integers that are computed when they are written; None computes them now.
    """
    value, axis = weight.value, weight.axis
    tensor, name = value.const_value, value.name or ""
    assert tensor is not None
    shape = tuple(int(size) for size in tensor.shape.numpy())
    flat = (shape[axis],) if weight.table else tuple(size if i == axis else 1 for i, size in enumerate(shape))

    def made(array: np.ndarray) -> dict[str, np.ndarray]:
        integers, scale = _integers(array, axis)
        return {"int8": integers, "int8_scale": scale.reshape(flat)}

    forms = {"int8": (ir.DataType.INT8, shape), "int8_scale": (ir.DataType.FLOAT, flat)}
    tensors = streamed_tensors(tensor, made, forms, latest)
    stored, scales = ir.Value(name=f"{name}_int8"), ir.Value(name=f"{name}_int8_scale")
    for one, word in ((stored, "int8"), (scales, "int8_scale")):
        set_tensor(one, tensors[word])
        graph.register_initializer(one)
    if not weight.table:
        to_float = [ir.AttrInt64("to", int(ir.DataType.FLOAT))]
        cast = ir.Node("", "Cast", [stored], to_float, name=f"{name}_cast")
        cast.outputs[0].name = f"{name}_steps"
        floats = ir.Node("", "Mul", [cast.outputs[0], scales], name=f"{name}_scaled")
        floats.outputs[0].shape, floats.outputs[0].type = value.shape, value.type
        value.replace_all_uses_with(floats.outputs[0])
        graph.initializers.pop(name)
        # The value keeps its name, which users and other passes refer to.
        floats.outputs[0].name = name
        graph.insert_before(graph[0], [cast, floats])
        return
    for node in [node for node, _ in value.uses()]:
        node.replace_input_with(0, stored)
        rows, output = ir.Value(name=f"{node.outputs[0].name}_int8"), node.outputs[0]
        looked_up = ir.Node("", "Gather", [stored, node.inputs[1]], node.attributes.values(), name=node.name)
        looked_up.outputs[0].name = rows.name
        last = [ir.AttrInt64("axis", -1)]
        floats = ir.Node("", "DequantizeLinear", [looked_up.outputs[0], scales], last, name=f"{node.name}_floats")
        ir.convenience.replace_nodes_and_values(graph, node, [node], [looked_up, floats], [output], [floats.outputs[0]])
    graph.initializers.pop(name)


def _integers(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 values, and the scales of the channels along `axis` in a shape that broadcasts to them."""
    others = tuple(i for i in range(array.ndim) if i != axis)
    largest = np.maximum(array.max(axis=others, keepdims=True), -array.min(axis=others, keepdims=True))
    scale = (largest / _LARGEST).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    steps = array / scale
    np.rint(steps, out=steps)
    np.clip(steps, -_LARGEST, _LARGEST, out=steps)
    return steps.astype(np.int8), scale


def _axis(node: ir.Node, slot: int, rank: int) -> int | None:
    """Return the axis of a weight's outputs; None if `node` does not read it as a weight."""
    if _SLOTS.get(node.op_type) != slot:
        return None
    if node.op_type == "Gather":
        # A scale per column fits every selected row.
        return rank - 1 if node.attributes.get_int("axis", 0) == 0 else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, rank - 1)
