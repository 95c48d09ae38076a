"""Replace one layer by a chain of smaller ones, which is equal to it at full rank."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.graph.names import free_name, names_in

Stages = Sequence[tuple[np.ndarray, tuple[int, ...]]]
"""Weights, shape (outputs, inputs, *kernel), in execution order, each with the spatial axes on which it slides."""


def replace_by_chains(model: ir.Model, chains: Mapping[str, Stages]) -> None:
    """Replace nodes by name as `replace_by_chain` does, which looks through the graph for each."""
    taken, nodes = names_in(model), dict[str | None, ir.Node]()
    for node in model.graph.all_nodes():
        nodes.setdefault(node.name, node)  # graphs inside may have nodes of the same name
    for name, stages in chains.items():
        _replace(model, nodes[name], stages, taken)


def replace_by_chain(model: ir.Model, name: str, stages: Stages) -> tuple[str, ...]:
    """Replace a Conv, Gemm or MatMul, in place; return the names of the new nodes.

        Conv(3x3, 64 -> 64)   ->   Conv(3x3, 64 -> 16) - Conv(1x1, 16 -> 64)

    The last layer keeps the name, the bias and the output. A projection without a bias maps zero padding to zero
    padding, so each spatial axis keeps its stride, dilation and padding in the layer whose kernel slides on it.

    Args:
        model: the model; the weight of node `name` must be an initializer that no other node reads.
        name: name of the node.
        stages: at least two; each spatial axis belongs to exactly one of them. The stages of a Gemm contain its alpha;
            the stages of a grouped convolution have as many groups.
    """
    node = next(n for n in model.graph.all_nodes() if n.name == name)
    return _replace(model, node, stages, names_in(model))


def _replace(model: ir.Model, node: ir.Node, stages: Stages, taken: set[str]) -> tuple[str, ...]:
    graph, name = node.graph, node.name or ""
    assert graph is not None
    left = node.op_type == "MatMul" and _is_weight(model, node.inputs[0])
    slot = 0 if left else 1
    x, old = node.inputs[1 - slot], node.inputs[slot]
    assert x is not None
    assert old is not None
    kind = tensor_in(old).dtype.numpy()
    nodes: list[ir.Node] = []
    value = x
    for number, (weight, axes) in enumerate(stages):
        last = number == len(stages) - 1
        factor = ir.Value(name=free_name(taken, f"{old.name}_factor{number + 1}"))
        set_weight(factor, _laid_out(weight, node, left).astype(kind))
        model.graph.register_initializer(factor)
        bias = node.inputs[2] if last and len(node.inputs) > 2 else None
        made = _stage(node, value, factor, bias, axes=axes, left=left)
        made.name = name if last else free_name(taken, f"{name}_factor{number + 1}")
        output = node.outputs[0]
        made.outputs[0].type = output.type
        made.outputs[0].name = output.name if last else free_name(taken, f"{output.name}_factor{number + 1}")
        if last:
            made.outputs[0].shape = output.shape
        nodes.append(made)
        value = made.outputs[0]
    node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
    graph.insert_before(node, nodes)
    graph.remove(node, safe=True)
    model.graph.initializers.pop(old.name or "")
    return tuple(made.name or "" for made in nodes)


def _stage(
    node: ir.Node, x: ir.Value, weight: ir.Value, bias: ir.Value | None, *, axes: tuple[int, ...], left: bool
) -> ir.Node:
    if node.op_type == "Conv":
        inputs = [x, weight, bias] if bias is not None else [x, weight]
        return ir.Node("", "Conv", inputs, _sliding(node, weight, axes))
    if bias is not None:
        beta = [node.attributes["beta"]] if "beta" in node.attributes else []
        return ir.Node("", "Gemm", [x, weight, bias], [ir.AttrFloat32(a.name, a.as_float()) for a in beta])
    return ir.Node("", "MatMul", [weight, x] if left else [x, weight])


def _sliding(node: ir.Node, weight: ir.Value, axes: tuple[int, ...]) -> list[ir.Attr]:
    """Return the attributes of a convolution that slides only on `axes` as `node` does on all of them."""
    assert weight.shape is not None
    kernel = weight.shape.numpy()[2:]
    rank = len(kernel)
    attributes = [ir.AttrInt64s("kernel_shape", list(kernel))]
    for name, usual in (("strides", 1), ("dilations", 1), ("pads", 0)):
        if name in node.attributes:
            given = node.attributes[name].as_ints()
            kept = [number if i % rank in axes else usual for i, number in enumerate(given)]
            attributes.append(ir.AttrInt64s(name, kept))
    if "auto_pad" in node.attributes and axes:
        attributes.append(ir.AttrString("auto_pad", node.attributes["auto_pad"].as_string()))
    if "group" in node.attributes:
        attributes.append(ir.AttrInt64("group", node.attributes["group"].as_int()))
    return attributes


def _laid_out(weight: np.ndarray, node: ir.Node, left: bool) -> np.ndarray:
    return weight if node.op_type == "Conv" or left else weight.T


def _is_weight(model: ir.Model, value: ir.Value | None) -> bool:
    return value is not None and value.name in model.graph.initializers
