"""Bring a graph into the form that the runtime's quantizer gets right, and name the nodes where it never does."""

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight
from onnxopt.graph.shapes import with_types
from onnxopt.quantization.outcome import nodes_inside, reads_quantized


def ready(model: ir.Model, op_types: Sequence[str]) -> ir.Model:
    """Return a copy of `model` whose nodes of `op_types` the quantizer gets right.

    It leaves out every tensor whose type it does not know, takes a Gemm's bias to be a vector and its alpha and beta to
    be 1, and gives what two layers share the scales of one of them.
    """
    typed = with_types(model)
    for node in typed.graph:
        if node.op_type in ("Gemm", "Conv", "ConvTranspose") and len(node.inputs) == 3:
            _give_own_bias(node)
        if node.op_type == "Gemm":
            _fold_factor(node, "alpha", 1)
            _fold_factor(node, "beta", 2)
    _split_roles(typed, op_types)
    return typed


def _split_roles(typed: ir.Model, op_types: Sequence[str]) -> None:
    """Give a weight that operators read along different axes once to each.

    The quantizer quantizes a weight once, with scales along the axis that the first of its readers needs.
    """
    roles = dict[ir.Value, tuple[str, int]]()
    for node in typed.graph:
        slot = {"Gemm": 1, "MatMul": 1, "Conv": 1, "ConvTranspose": 1, "Gather": 0}.get(node.op_type)
        array = None if slot is None else _constant(node, slot)
        if slot is None or array is None or node.op_type not in op_types:
            continue
        weight, role = node.inputs[slot], (node.op_type, node.attributes.get_int("transB", 0))
        assert weight is not None
        if roles.setdefault(weight, role) != role:
            _replace_constant(node, slot, array)


def _constant(node: ir.Node, slot: int) -> np.ndarray | None:
    value = node.inputs[slot] if slot < len(node.inputs) else None
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _give_own_bias(node: ir.Node) -> None:
    weight, bias = _constant(node, 1), _constant(node, 2)
    if weight is None or bias is None:
        return
    own = bias
    if node.op_type == "Gemm":
        width = weight.shape[0 if node.attributes.get_int("transB", 0) else 1]
        own = np.broadcast_to(bias.reshape(-1), (width,)) if bias.size in (1, width) else bias
    value = node.inputs[2]
    if own.shape != bias.shape or (value is not None and len(value.uses()) > 1):
        _replace_constant(node, 2, own)


def _fold_factor(gemm: ir.Node, factor: str, slot: int) -> None:
    array = _constant(gemm, slot)
    scale = gemm.attributes.get_float(factor, 1.0)
    if array is not None and scale != 1:
        _replace_constant(gemm, slot, array * array.dtype.type(scale))
    if array is not None or len(gemm.inputs) <= slot or gemm.inputs[slot] is None:
        gemm.attributes.pop(factor, None)


def _replace_constant(node: ir.Node, slot: int, array: np.ndarray) -> None:
    old = node.inputs[slot]
    assert old is not None
    assert node.graph is not None
    # A new value: the old one may be shared with nodes that need it as it is.
    own = ir.Value(name=f"{old.name}_of_{node.name}")
    set_weight(own, array)
    node.graph.register_initializer(own)
    node.replace_input_with(slot, own)


_OTHER_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def unfit(typed: ir.Model) -> list[str]:
    """Return the nodes that the quantizer would get wrong.

    These compute in other floats, which neither our ranges nor the dynamic operators know, are quantized already, or
    are a Gemm with factors that could not be folded.
    """
    return [n.name or "" for n in typed.graph if _other_floats(n) or reads_quantized(n) or _has_factor(n)]


def products_not_in(typed: ir.Model, op_types: Sequence[str]) -> list[str]:
    """Return the matrix products of other types, which the quantizer does not tell apart."""
    return [n.name or "" for n in typed.graph if n.op_type in ("Gemm", "MatMul") and n.op_type not in op_types]


def _other_floats(node: ir.Node) -> bool:
    return any(v is not None and v.dtype in _OTHER_FLOATS for v in (*node.inputs, *node.outputs))


def _has_factor(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and any(node.attributes.get_float(k, 1.0) != 1 for k in ("alpha", "beta"))


_OWN_SCALE = ("Conv", "Gemm", "MatMul", "Add", "Mul", "LeakyRelu", "Sigmoid", "Concat", "Where")
"""Operators whose QOperator form computes a scale for its output, instead of passing on that of its input."""


def must_stay(typed: ir.Model, form: str) -> list[str]:
    """Return the Relu and Clip nodes that the quantizer would remove although saturation does not do their work.

    It removes them all and gives their range to what they read. That does not clip when a range that includes zero is
    wider than the Clip, and in the QOperator form when the scale of what they read is not their own.
    """
    return [
        n.name or ""
        for n in typed.graph
        if (n.op_type == "Clip" and not _clips_around_zero(n))
        or (n.op_type in ("Clip", "Relu") and form == "qoperator" and not _own_scale(n.inputs[0]))
    ]


def _clips_around_zero(clip: ir.Node) -> bool:
    return _bound(clip, 1) <= 0 <= _bound(clip, 2)


def _bound(clip: ir.Node, slot: int) -> float:
    if len(clip.inputs) <= slot or clip.inputs[slot] is None:
        return 0.0
    array = _constant(clip, slot)
    return float("nan") if array is None else float(array.item())


def _own_scale(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type in _OWN_SCALE and value is not None and len(value.uses()) == 1


def activations_around(typed: ir.Model, names: Collection[str], known: Collection[str]) -> list[str]:
    """Return the activations in `known` that these nodes read and write, and those of a merged Relu or Clip."""
    found = dict[str, None]()
    for node in typed.graph:
        if node.name not in names:
            continue
        values = [*node.inputs, *node.outputs]
        for use in (use for value in node.outputs for use in value.uses()):
            values += use.node.outputs if use.node.op_type in ("Relu", "Clip") else []
        found |= dict.fromkeys(v.name for v in values if v is not None and v.name is not None and v.name in known)
    return list(found)


def name_inner_nodes(typed: ir.Model, op_types: Collection[str], exclude: Collection[str]) -> list[str]:
    """Give the nodes of sub-graphs names that no other has, and return those of them that must stay in float.

    The quantizer names what it adds for them, and knows them by nothing else.
    """
    left, number = list[str](), 0
    for outer in typed.graph:
        for inner in nodes_inside(outer):
            inner.name = f"{inner.op_type}_inside_{number}"
            number += 1
            if outer.name in exclude or inner.op_type not in op_types or _other_floats(inner):
                left.append(inner.name)
    return left
