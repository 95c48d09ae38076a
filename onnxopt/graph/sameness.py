"""Nodes that two versions of a model have in common."""

import numpy as np
import onnx_ir as ir

_OPAQUE = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def same_values(model: ir.Model, other: ir.Model) -> set[str]:
    """Return the names of the values in the main graph that are computed from the same inputs in the same way in both.

    A node that holds a graph, and all that follows from it, counts as different.
    """
    inputs, theirs = {v.name or "" for v in other.graph.inputs}, other.graph.initializers
    weights = ((name, v, theirs.get(name)) for name, v in model.graph.initializers.items())
    found = {name for name, one, two in weights if two is not None and _same_tensor(one.const_value, two.const_value)}
    found |= {v.name or "" for v in model.graph.inputs} & inputs - set(theirs) - set(model.graph.initializers)
    makers = {node.outputs[0].name: node for node in other.graph}
    for node in model.graph:
        twin = makers.get(node.outputs[0].name)
        if twin is not None and _same_node(node, twin) and all(v is None or v.name in found for v in node.inputs):
            found |= {v.name or "" for v in node.outputs}
    return found - {""}


def _same_node(one: ir.Node, two: ir.Node) -> bool:
    return (
        one.op_identifier() == two.op_identifier()
        and [_name(v) for v in one.inputs] == [_name(v) for v in two.inputs]
        and [_name(v) for v in one.outputs] == [_name(v) for v in two.outputs]
        and one.attributes.keys() == two.attributes.keys()
        and all(_same_attribute(one.attributes[name], two.attributes[name]) for name in one.attributes)
    )


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _same_attribute(one: ir.Attr, two: ir.Attr) -> bool:
    if one.type != two.type or one.type in _OPAQUE or one.is_ref() or two.is_ref():
        return False
    if one.type == ir.AttributeType.TENSOR:
        return _same_tensor(one.value, two.value)
    return bool(one.value == two.value)


def _same_tensor(one: ir.TensorProtocol | None, two: ir.TensorProtocol | None) -> bool:
    if one is two:
        return True
    if one is None or two is None or one.dtype != two.dtype or tuple(one.shape) != tuple(two.shape):
        return False
    if one.dtype == ir.DataType.STRING:
        return bool(np.array_equal(one.numpy(), two.numpy()))
    return one.tobytes() == two.tobytes()
