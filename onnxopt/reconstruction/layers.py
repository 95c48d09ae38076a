"""Edits of linear layers: new weights, and added biases."""

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.graph.names import free_name, value_names
from onnxopt.reconstruction.linear import LinearLayer, linear_layer, linear_layers

__all__ = [
    "LinearLayer",
    "bias_of",
    "drop_zero_biases",
    "give_bias",
    "linear_layer",
    "linear_layers",
    "with_biases",
    "write_layer",
]


def bias_of(model: ir.Model, layer: LinearLayer, outputs: int) -> np.ndarray:
    """Return the bias in the layer's own output, shape (outputs,); zeros if a later Add adds it."""
    if layer.bias is None or layer.bias_follows:
        return np.zeros(outputs)
    tensor = tensor_in(model.graph.initializers[layer.bias])
    return np.asarray(layer.bias_scale * tensor.numpy().astype(np.float64).reshape(-1))


def write_layer(model: ir.Model, layer: LinearLayer, matrix: np.ndarray, offset: np.ndarray) -> None:
    """Replace a layer's weights, and add `offset`, shape (outputs,), to its bias."""
    graph = model.graph
    value = graph.initializers[layer.weight]
    like = tensor_in(value).numpy()
    set_weight(value, layer.array(matrix, like))
    if not np.any(offset):
        return
    assert layer.bias is not None, "with_biases gives every layer one"
    bias = graph.initializers[layer.bias]
    old = tensor_in(bias).numpy()
    set_weight(
        bias, (old.astype(np.float64).reshape(-1) + offset / layer.bias_scale).astype(old.dtype).reshape(old.shape)
    )


def with_biases(model: ir.Model, *, grouped: bool = False) -> set[str]:
    """Add a zero bias to every linear layer without a bias, in place; return the names of the biases.

    This must precede the search for channels, so that a bias needed later belongs to them.
    """
    made = set[str]()
    nodes, taken = dict[str, ir.Node](), value_names(model)
    for node in model.graph:
        nodes.setdefault(node.name or "", node)
    for layer in linear_layers(model, grouped=grouped).values():
        if layer.bias is None:
            made.add(give_bias(model, nodes[layer.node], layer, taken))
    return made


def drop_zero_biases(model: ir.Model, names: set[str]) -> None:
    """Remove the biases that are still zero, in place."""
    for name in names:
        bias = model.graph.initializers.get(name)
        if bias is None or bias.const_value is None or np.any(bias.const_value.numpy()):
            continue
        for node, slot in list(bias.uses()):
            if node.op_type == "Add":
                source, output = node.inputs[1 - slot], node.outputs[0]
                assert source is not None
                assert node.graph is not None
                _replace(node.graph, output, source)
                node.graph.remove(node, safe=True)
            else:
                node.replace_input_with(slot, None)
                node.resize_inputs(slot)
        model.graph.initializers.pop(name)


def give_bias(model: ir.Model, node: ir.Node, layer: LinearLayer, taken: set[str]) -> str:
    """Add a zero bias to a layer without a bias, in place; return its name, which is not one of `taken`."""
    graph = node.graph
    tensor = tensor_in(model.graph.initializers[layer.weight])
    assert graph is not None
    array = tensor.numpy()
    zeros = np.zeros(array.shape[layer.out_axis], array.dtype)
    bias = ir.Value(name=free_name(taken, f"{layer.weight}_bias"))
    set_weight(bias, zeros if layer.side == "right" else zeros[:, None])
    model.graph.register_initializer(bias)
    if node.op_type != "MatMul":
        node.resize_inputs(3)
        node.replace_input_with(2, bias)
        return bias.name or ""
    output = node.outputs[0]
    add = ir.Node("", "Add", [output, bias], name=f"{layer.node}_bias")
    add.outputs[0].name = free_name(taken, f"{layer.y}_biased")
    add.outputs[0].shape, add.outputs[0].type = output.shape, output.type
    _replace(graph, output, add.outputs[0])
    graph.insert_after(node, add)
    return bias.name or ""


def _replace(graph: ir.Graph | ir.Function, old: ir.Value, new: ir.Value) -> None:
    """Redirect all readers of `old` to `new`, except the node that computes `new`; an output keeps its name."""
    for user, slot in [u for u in old.uses() if u[0] is not new.producer()]:
        user.replace_input_with(slot, new)
    if old.is_graph_output():
        old.name, new.name = new.name, old.name
        for position, output in enumerate(list(graph.outputs)):
            if output is old:
                graph.outputs[position] = new
