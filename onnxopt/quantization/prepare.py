"""Conversion of a graph to forms that the runtime's quantizer handles correctly, and the nodes that it cannot."""

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight
from onnxopt.quantization.outcome import nodes_inside, reads_quantized


def ready(typed: ir.Model, op_types: Sequence[str]) -> ir.Model:
    """Make a model with types one whose nodes of `op_types` the quantizer handles correctly, in place; return it.

    The quantizer skips every tensor of unknown type, assumes that a Gemm's bias is a vector and its alpha and beta are
    1, and gives a shared weight the scales for one of its layers.
    """
    for node in typed.graph:
        if node.op_type in ("Gemm", "Conv", "ConvTranspose") and len(node.inputs) == 3:
            _give_own_bias(node)
        if node.op_type == "Gemm":
            _fold_factor(node, "alpha", 1)
            _fold_factor(node, "beta", 2)
    _split_roles(typed, op_types)
    return typed


def _split_roles(typed: ir.Model, op_types: Sequence[str]) -> None:
    """Duplicate a weight that operators read along different axes.

    The quantizer quantizes a weight once, with scales along the axis of its first reader.
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


def upright(typed: ir.Model) -> None:
    """Transpose the constant weights of Gemm nodes with `transB`, in place; the quantizer makes a MatMul of each.

    It would do the same, after looking each weight up among all of them.
    """
    made = dict[ir.Value, ir.Value]()
    for node in typed.graph:
        weight = node.inputs[1] if node.op_type == "Gemm" else None
        array = None if weight is None or _has_factor(node) else _constant(node, 1)
        turned = node.attributes.get_int("transB", 0) and not node.attributes.get_int("transA", 0)
        if weight is None or array is None or not turned:
            continue
        if weight not in made:
            made[weight] = ir.Value(name=_free(f"{weight.name}_Transposed", typed))
            set_weight(made[weight], array.T)
            typed.graph.register_initializer(made[weight])
        node.replace_input_with(1, made[weight])
        node.attributes.pop("transB")


def _free(name: str, typed: ir.Model) -> str:
    while name in typed.graph.initializers:
        name += "_"
    return name


def _replace_constant(node: ir.Node, slot: int, array: np.ndarray) -> None:
    old = node.inputs[slot]
    assert old is not None
    assert node.graph is not None
    # A new value, because other nodes may need the old one unchanged.
    own = ir.Value(name=f"{old.name}_of_{node.name}")
    set_weight(own, array)
    node.graph.register_initializer(own)
    node.replace_input_with(slot, own)


_OTHER_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def unfit(typed: ir.Model) -> list[str]:
    """Return the nodes that the quantizer would handle wrongly.

    They compute in other float types, which neither our ranges nor the dynamic operators support, are quantized
    already, or are a Gemm with factors that could not be folded.
    """
    return [n.name or "" for n in typed.graph if _other_floats(n) or reads_quantized(n) or _has_factor(n)]


def products_not_in(typed: ir.Model, op_types: Sequence[str]) -> list[str]:
    """Return the matrix products of other types, which the quantizer does not check."""
    return [n.name or "" for n in typed.graph if n.op_type in ("Gemm", "MatMul") and n.op_type not in op_types]


def _other_floats(node: ir.Node) -> bool:
    return any(v is not None and v.dtype in _OTHER_FLOATS for v in (*node.inputs, *node.outputs))


def _has_factor(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and any(node.attributes.get_float(k, 1.0) != 1 for k in ("alpha", "beta"))


_OWN_SCALE = ("Conv", "Gemm", "MatMul", "Add", "Mul", "LeakyRelu", "Sigmoid", "Concat", "Where")
"""Operators whose QOperator form has a separate output scale, not its input's."""


def must_stay(typed: ir.Model, form: str) -> list[str]:
    """Return the Relu and Clip nodes that the quantizer would remove although saturation does not replace them.

    The quantizer removes all of them and gives their range to their input. That does not clip if the range, which
    includes zero, is wider than the Clip; nor in the QOperator form, if the input has no separate scale.
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
    """Return the activations in `known` that these nodes, or a merged Relu or Clip, read and write."""
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
    """Give the nodes of sub-graphs unique names, and return those that must stay in float.

    The quantizer derives names of new nodes from them and identifies them only by name.
    """
    left, number = list[str](), 0
    for outer in typed.graph:
        for inner in nodes_inside(outer):
            inner.name = f"{inner.op_type}_inside_{number}"
            number += 1
            if outer.name in exclude or inner.op_type not in op_types or _other_floats(inner):
                left.append(inner.name)
    return left
