"""Nodes with known failures of the runtime's quantizer, with the reason; attempts find the others."""

from collections.abc import Collection

import onnx_ir as ir


def static_obstacles(typed: ir.Model, form: str, op_types: Collection[str], ranged: Collection[str]) -> dict[str, str]:
    """Return the nodes that must stay in float, with the reason.

    Args:
        typed: a model with the types of its values.
        form: `qdq` or `qoperator`.
        op_types: op types to quantize.
        ranged: names of the tensors with a known range.
    """
    found = dict[str, str]()
    for node in typed.graph:
        if node.op_type in op_types and not node.domain:
            reason = _unseen(node, ranged) or _bias(node, form) or (_operator_form(node) if form == "qoperator" else "")
            if reason:
                found[node.name or ""] = reason
    return found


def dynamic_obstacles(model: ir.Model, op_types: Collection[str]) -> dict[str, str]:
    """Return the nodes of `model` that must stay in float, with the reason."""
    found = {n.name or "": _matrix(n) for n in model.graph if n.op_type in op_types}
    return {name: reason for name, reason in found.items() if reason}


def _unseen(node: ir.Node, ranged: Collection[str]) -> str:
    for value in (*node.inputs, *node.outputs):
        if value is None or value.const_value is not None or value.dtype is not ir.DataType.FLOAT:
            continue
        if value.name and value.name not in ranged:
            return f"no sample gives {value.name} a value"
    return ""


def _bias(node: ir.Node, form: str) -> str:
    bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type in ("Conv", "ConvTranspose") else None
    if bias is None:
        return ""
    if node.op_type == "ConvTranspose" and (node.attributes.get_int("group", 1) or 1) > 1:
        return "the runtime's quantizer knows no bias of a ConvTranspose in groups"
    return "its bias is computed" if form == "qoperator" and bias.const_value is None else ""


def _operator_form(node: ir.Node) -> str:
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
        return "the runtime has no cubic Resize of integers"
    return _matrix(node)


def _matrix(node: ir.Node) -> str:
    """Return the reason why the weight of a MatMul has no integer form; empty if it has one."""
    weight = node.inputs[1] if node.op_type == "MatMul" else None
    if weight is None or weight.const_value is None or len(weight.const_value.shape) == 2:
        return ""
    return f"the shape of its weight, {list(weight.const_value.shape)}, has not two axes"
