"""Split the input product of recurrent layers into a separate layer, and merge it back."""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_AFTER = "_recurrent"


def split_recurrent(model: ir.Model, exclude: Collection[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Split the input product off every LSTM, GRU and RNN, in place; return their names, and why others are unchanged.

        LSTM(x, W, R)   ->   LSTM(MatMul(x, W), 1, R)

    The product takes the layer's name until `merge_recurrent` puts it back. The recurrence itself runs step by step
    inside one node, so its weights cannot be split.

    Args:
        model: a model with named nodes.
        exclude: names of nodes to skip.
    """
    graph = model.graph
    done, refused = list[str](), dict[str, str]()
    for node in [n for n in graph if n.op_type in _GATES and not n.domain]:
        name = node.name or ""
        x, weight = node.inputs[0], node.inputs[1]
        if name in exclude:
            refused[name] = "excluded by name"
        elif x is None or weight is None or not _own(graph, weight):
            refused[name] = "its input weight is shared, computed, or no float"
        else:
            _split(graph, node, x, weight)
            done.append(name)
    return tuple(done), refused


def merge_recurrent(model: ir.Model, names: Collection[str]) -> None:
    """Merge the product and the bias directly before each recurrent layer into its weights, in place."""
    for name in names:
        node = next(n for n in model.graph if n.name == f"{name}{_AFTER}")
        made = node.inputs[0].producer() if node.inputs[0] is not None else None
        assert made is not None
        if made.op_type == "Add":
            _take_bias(model.graph, node, made)
            made = node.inputs[0].producer() if node.inputs[0] is not None else None
            assert made is not None
        x, weight, old = made.inputs[0], made.inputs[1], node.inputs[1]
        assert weight is not None
        assert old is not None
        matrix, (directions, rows) = tensor_in(weight).numpy(), tensor_in(old).shape.numpy()[:2]
        set_weight(old, np.ascontiguousarray(matrix.T).reshape(int(directions), int(rows), -1))
        node.replace_input_with(0, x)
        model.graph.remove(made, safe=True)
        model.graph.initializers.pop(weight.name or "")
        node.name = name


def _own(graph: ir.Graph, weight: ir.Value) -> bool:
    known = weight.name in graph.initializers and not weight.is_graph_input() and not weight.is_graph_output()
    tensor = weight.const_value
    floating = tensor is not None and tensor.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
    return known and floating and len(weight.uses()) == 1


def _split(graph: ir.Graph, node: ir.Node, x: ir.Value, weight: ir.Value) -> None:
    array, name = tensor_in(weight).numpy(), node.name or ""
    directions, rows, inputs = array.shape
    matrix = ir.Value(name=_free(graph, f"{weight.name}_input"))
    set_weight(matrix, np.ascontiguousarray(array.reshape(-1, inputs).T))
    graph.register_initializer(matrix)
    product = ir.Node("", "MatMul", [x, matrix], name=name)
    product.outputs[0].name, product.outputs[0].type = _free(graph, f"{name}_input"), x.type
    node.name = f"{name}{_AFTER}"
    node.replace_input_with(0, product.outputs[0])
    graph.insert_before(node, product)
    # Each direction reads its own part of the product.
    set_weight(weight, np.eye(directions * rows, dtype=array.dtype).reshape(directions, rows, -1))


def _take_bias(graph: ir.Graph, node: ir.Node, add: ir.Node) -> None:
    product, bias = add.inputs
    assert bias is not None
    recurrent = node.inputs[2]
    assert recurrent is not None
    assert recurrent.shape is not None
    directions, rows = recurrent.shape.numpy()[:2]
    offset = tensor_in(bias).numpy().reshape(int(directions), int(rows))
    offset = np.concatenate([offset, np.zeros_like(offset)], axis=1)
    known = node.inputs[3] if len(node.inputs) > 3 else None
    value = ir.Value(name=_free(graph, f"{node.name}_bias"))
    old = known.const_value.numpy() if known is not None and known.const_value is not None else 0
    set_weight(value, (offset + old).astype(offset.dtype))
    graph.register_initializer(value)
    if len(node.inputs) < 4:
        node.resize_inputs(4)
    node.replace_input_with(3, value)
    node.replace_input_with(0, product)
    graph.remove(add, safe=True)
    for left in (bias, known):
        if left is not None and not left.uses() and left.name in graph.initializers:
            graph.initializers.pop(left.name or "")


def _free(graph: ir.Graph, name: str) -> str:
    taken = {*graph.initializers, *(v.name for v in graph.inputs)}
    taken |= {v.name for node in graph.all_nodes() for v in node.outputs}
    while name in taken:
        name += "_"
    return name
