"""Graph edits that are easy to get wrong."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.graph.check import require_nodes
from onnxopt.model_file.heap import without_collections

FREE_WEIGHTS_IR_VERSION = 4


def set_weight(value: ir.Value, array: np.ndarray) -> None:
    """Give an initializer another array; tensor, shape and type change together. The array is copied."""
    frozen = np.array(array, copy=True)
    frozen.flags.writeable = False
    set_tensor(value, ir.tensor(frozen, name=value.name))


def set_tensor(value: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Give an initializer another tensor, which is not read and gets the name of the value."""
    tensor.name = value.name
    value.const_value, value.shape, value.type = tensor, ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)


def add_weight(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Return a new initializer called `name`, or with a number behind it where another one has that name."""
    number, free = 1, name
    while free in graph.initializers:
        number += 1
        free = f"{name}_{number}"
    value = ir.Value(name=free)
    set_tensor(value, tensor)
    graph.register_initializer(value)
    return value


def with_input_shapes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """Return a copy whose inputs have these shapes; inputs without an entry keep theirs."""
    fixed = model.clone()
    for value in fixed.graph.inputs:
        shape = shapes.get(value.name or "")
        if shape is not None:
            value.shape = ir.Shape(shape)
    return fixed


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of an initializer or a Constant node; None for a computed value.

    `ir.convenience.get_const_tensor` renames the tensor of a Constant node after its value. Clones share tensors, so it
    would change the original model too.
    """
    if value is None or value.const_value is not None:
        return None if value is None else value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant" or "value" not in node.attributes:
        return None
    return node.attributes["value"].as_tensor()


def tensor_in(value: ir.Value | None) -> ir.TensorProtocol:
    """Return the tensor of a value that stores one; ValueError for any other, which is a mistake of the caller."""
    if value is None or value.const_value is None:
        raise ValueError("there is no value" if value is None else f"{value.name} stores no tensor")
    return value.const_value


def freeze_weights(model: ir.Model) -> int:
    """Remove weights from the graph inputs, which makes them constants; return their number.

    Before IR version 4 every weight had to be an input; a caller could override it, so no runtime may fold it.
    """
    weights = [v for v in model.graph.inputs if v.name in model.graph.initializers]
    for value in weights:
        model.graph.inputs.remove(value)
    if weights:
        model.ir_version = max(model.ir_version, FREE_WEIGHTS_IR_VERSION)
    return len(weights)


def lift_constants(model: ir.Model, *, every_type: bool = False, captured: bool = True) -> None:
    """Replace Constant nodes of the main graph by initializers, except those that are outputs.

    Args:
        model: changed in place.
        every_type: whether to replace all types but strings; else only float32, the weights that quantizers look for.
        captured: whether to replace also constants that an inner graph reads.
    """
    graph = model.graph
    for node in [n for n in graph if n.op_type == "Constant" and not n.domain]:
        array, output = _array_of(node, every_type=every_type), node.outputs[0]
        if array is None or output.is_graph_output() or (is_captured(output, graph) and not captured):
            continue
        # The copy gets a new name; clones share the original tensor.
        weight = ir.Value(name=output.name)
        set_weight(weight, array)
        output.replace_all_uses_with(weight)
        graph.remove(node, safe=True)
        graph.register_initializer(weight)


def is_captured(value: ir.Value, graph: ir.Graph) -> bool:
    """Return whether an inner graph reads a value of `graph`."""
    return any(node.graph is not graph for node, _ in value.uses())


def _array_of(node: ir.Node, *, every_type: bool) -> np.ndarray | None:
    """Return the array of a Constant node; None for strings, sparse tensors, and types that are not wanted."""
    if "value" in node.attributes:
        tensor = node.attributes["value"].as_tensor()
        wanted = tensor.dtype is not ir.DataType.STRING if every_type else tensor.dtype is ir.DataType.FLOAT
        return tensor.numpy() if wanted else None
    if not every_type:
        return None
    kinds = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    name = next((name for name in kinds if name in node.attributes), None)
    return None if name is None else np.array(node.attributes[name].value, kinds[name])


def name_nodes(model: ir.Model) -> int:
    """Give every nameless node of the main graph a unique name, `OpType_k`; return their number.

    Reports and exclusion lists refer to nodes by name; many exporters leave names empty, and some repeat them.
    """
    kept: set[str] = set()
    taken = {node.name or "" for node in model.graph}
    named = 0
    for position, node in enumerate(model.graph):
        if not node.name or node.name in kept:
            base = f"{node.name or node.op_type}_{position}"
            while base in taken:
                base += "_"
            node.name = base
            taken.add(base)
            named += 1
        kept.add(node.name)
    return named


def editable(model: ir.Model, named: Iterable[str] = ()) -> ir.Model:
    """Return a copy whose nodes have unique names, and whose weights are initializers that no caller overrides.

    Args:
        model: the input model (not modified).
        named: names of nodes from the user, which must exist.

    Raises:
        UsageError: ONX102 no node has one of these names.
    """
    with without_collections():
        copy = model.clone()
    freeze_weights(copy)
    lift_constants(copy)
    name_nodes(copy)
    require_nodes(copy, named)
    return copy
