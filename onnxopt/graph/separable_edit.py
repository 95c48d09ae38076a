"""Replace one convolution by a depthwise and a pointwise one."""

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in


def replace_by_separable(model: ir.Model, name: str, depthwise: np.ndarray, pointwise: np.ndarray) -> None:
    """Replace a Conv of the main graph without groups, in place.

        Conv(3x3, 64 -> 96)   ->   Conv(3x3, 64 groups, 64 -> 128) - Conv(1x1, 128 -> 96)

    The second keeps the name, the bias and the output; the first has the stride, dilation and padding.

    Args:
        model: the model; the weight of node `name` must be an initializer that no other node reads.
        name: name of the node.
        depthwise: weights, shape (inputs * terms, 1, *kernel), the terms of a channel next to each other.
        pointwise: weights, shape (outputs, inputs * terms).
    """
    graph = model.graph
    node = next(n for n in graph if n.name == name)
    x, old, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None
    assert old is not None
    assert old.shape is not None
    kind, kernel = tensor_in(old).dtype.numpy(), list(depthwise.shape[2:])
    taken = {value.name for n in graph.all_nodes() for value in n.outputs} | {n.name for n in graph.all_nodes()}
    taken |= {*graph.initializers, *(value.name for value in graph.inputs)}
    weights = ir.Value(name=_free(taken, f"{old.name}_depthwise")), ir.Value(name=_free(taken, f"{old.name}_pointwise"))
    set_weight(weights[0], depthwise.astype(kind))
    set_weight(weights[1], pointwise.reshape(*pointwise.shape, *(1,) * len(kernel)).astype(kind))
    kept = [a for a in node.attributes.values() if a.name in ("strides", "dilations", "pads", "auto_pad")]
    groups = [ir.AttrInt64("group", int(old.shape.numpy()[1])), ir.AttrInt64s("kernel_shape", kernel)]
    first = ir.Node("", "Conv", [x, weights[0]], [*kept, *groups], name=_free(taken, f"{name}_depthwise"))
    first.outputs[0].name = _free(taken, f"{output.name}_depthwise")
    first.outputs[0].type = output.type
    bias = list(node.inputs[2:])
    ones = [ir.AttrInt64s("kernel_shape", [1] * len(kernel))]
    second = ir.Node("", "Conv", [first.outputs[0], weights[1], *bias], ones, name=name)
    second.outputs[0].name, second.outputs[0].type, second.outputs[0].shape = output.name, output.type, output.shape
    output.replace_all_uses_with(second.outputs[0], replace_graph_outputs=True)
    graph.insert_before(node, [first, second])
    graph.remove(node, safe=True)
    graph.initializers.pop(old.name or "")
    for value in weights:
        graph.register_initializer(value)


def _free(taken: set[str | None], name: str) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
