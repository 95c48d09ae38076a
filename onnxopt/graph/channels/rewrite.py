"""Adapt single nodes to a graph that shrinks: groups, target shapes, splits, slices, indices, sizes."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.moves import slices, taken_positions
from onnxopt.graph.channels.plan import CutPlan
from onnxopt.graph.channels.rules import reduced_axes


def rewrite(plan: CutPlan, node: ir.Node) -> None:
    """Adapt the attributes and constants of a node to the axes that shrink.

    Raises:
        ValueError: attributes or constants depend on dynamic sizes in a way that cannot be adapted.
    """
    touched = any(plan.keep(v) for v in (*node.inputs, *node.outputs))
    if not touched or node.domain:
        return
    rule = _RULES.get(node.op_type)
    if rule is not None:
        rule(plan, node)


def _group(plan: CutPlan, node: ir.Node) -> None:
    group = node.attributes.get_int("group", 1)
    if group > 1 and not plan.trace.parts.get(node.name or "", 0):
        x = node.inputs[0]
        assert x is not None
        width = plan.trace.shape(x)[1] // group
        node.attributes["group"] = ir.AttrInt64("group", plan.shape(x)[1] // width)


def _hidden_size(plan: CutPlan, node: ir.Node) -> None:
    inner = node.inputs[2]
    assert inner is not None
    node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", plan.shape(inner)[2])


def _norm_groups(plan: CutPlan, node: ir.Node) -> None:
    x = node.inputs[0]
    assert x is not None
    width = plan.trace.shape(x)[1] // node.attributes["num_groups"].as_int()
    node.attributes["num_groups"] = ir.AttrInt64("num_groups", plan.shape(x)[1] // width)


def _mean(plan: CutPlan, node: ir.Node) -> None:
    """Divide by the number of positions in the original, where removed positions count as zero."""
    original = plan.original(node)
    value, keep = node.inputs[0], plan.keep(node.inputs[0])
    assert value is not None
    share = float(np.prod([keep[i].mean() for i in reduced_axes(plan.trace, original) if i in keep]))
    if share == 1.0:
        return
    kind = ir.DataType(plan.trace.first.dtypes[value.name or ""]).numpy()
    factor = plan.constant(np.array(share, kind), f"{node.name}_share")
    output = node.outputs[0]
    # The mean may be an output of the model, which must keep its name.
    scaled = value if output.is_graph_output() else output
    product = plan.node("Mul", [scaled, factor], f"{node.name}_scaled")
    if scaled is value:
        plan.model.graph.insert_before(node, product)
        node.replace_input_with(0, product.outputs[0])
        return
    for user, slot in [u for u in output.uses() if u[0] is not product]:
        user.replace_input_with(slot, product.outputs[0])
    plan.model.graph.insert_after(node, product)


def _root_mean_square(plan: CutPlan, node: ir.Node) -> None:
    """Scale to the root mean square of the original: x / sqrt(s m + e) = x / sqrt(m + e / s) / sqrt(s)."""
    value, scale = node.inputs[:2]
    assert scale is not None
    keep = plan.keep(value).get(len(plan.shape(node.outputs[0])) - 1)
    if keep is None:
        return
    share = float(keep.mean())
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", epsilon / share)
    kind = ir.DataType(plan.trace.first.dtypes[scale.name or ""]).numpy()
    factor = plan.constant(np.array(share**-0.5, kind), f"{node.name}_share")
    product = plan.node("Mul", [scale, factor], f"{node.name}_scale")
    plan.model.graph.insert_before(node, product)
    node.replace_input_with(1, product.outputs[0])


def _attention(plan: CutPlan, node: ir.Node) -> None:
    """Set the number of remaining heads; scores keep the scale of the original head dimension."""
    q, k = node.inputs[:2]
    assert q is not None
    assert k is not None
    packed = len(plan.trace.shape(q)) == 3
    heads = [node.attributes.get_int(name, 1) for name in ("q_num_heads", "kv_num_heads")]
    dimension = plan.trace.shape(q)[-1] // (heads[0] if packed else 1)
    if "scale" not in node.attributes:
        node.attributes["scale"] = ir.AttrFloat32("scale", float(dimension) ** -0.5)
    if packed and not plan.trace.parts.get(node.name or "", 0):
        for name, value, count in (("q_num_heads", q, heads[0]), ("kv_num_heads", k, heads[1])):
            width = plan.trace.shape(value)[-1] // count
            node.attributes[name] = ir.AttrInt64(name, plan.shape(value)[-1] // width)


def _resize(plan: CutPlan, node: ir.Node) -> None:
    """Adapt target sizes, given for all axes or for some."""
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return  # scale factors hold for any size
    if "axes" not in node.attributes:
        _target(plan, node, slot=3)
        return
    axes = [a % len(plan.shape(node.outputs[0])) for a in node.attributes["axes"].as_ints()]
    if any(a in plan.keep(node.outputs[0]) for a in axes):
        raise ValueError(f"{node.name} states the size of an axis that shrinks")


def _target(plan: CutPlan, node: ir.Node, slot: int) -> None:
    """Put the sizes after the cut into a target shape; other computed sizes are computed from the original sizes."""
    given, before, output = node.inputs[slot], plan.original(node).inputs[slot], node.outputs[0]
    assert given is not None
    assert before is not None
    now, name = plan.shape(output), node.name or node.op_type
    static = plan.trace.first.fed == plan.trace.second.fed
    known = plan.trace.known(before) if static or plan.trace.is_weight(before) else None
    if known is not None:
        offset = len(now) - len(known)
        kept = {"Expand": (0, -1, 1), "ConstantOfShape": ()}.get(node.op_type, (0, -1))
        target = [v if v in kept else now[i + offset] for i, v in enumerate(known.tolist())]
        node.replace_input_with(slot, plan.constant(np.array(target, known.dtype), name))
        return
    shrunk = np.array([axis in plan.keep(output) for axis in range(len(now))])
    if node.op_type == "Reshape":
        stated = plan.trace.first.values.get(before.name or "")
        second = plan.trace.second.shapes[output.name or ""]
        merged = [i for i in np.flatnonzero(shrunk).tolist() if second[i] != plan.trace.shape(output)[i]]
        shrunk[merged] = False
        if merged and (stated is None or not (stated[merged] == -1).all()):
            given = _share_of(plan, node, given, {i: plan.keep(output)[i] for i in merged}, len(now))
    if node.op_type != "Reshape" and len(now) != plan.trace.first.shapes[before.name or ""][0]:
        raise ValueError(f"the target of {name} is computed")
    if not shrunk.any() and node.op_type == "Expand":
        return
    sizes = plan.constant(np.array(now, np.int64), name)
    chosen = plan.node("Where", [plan.constant(shrunk, f"{name}_shrinks"), sizes, given], f"{name}_target")
    plan.model.graph.insert_before(node, chosen)
    node.replace_input_with(slot, chosen.outputs[0])


def _share_of(plan: CutPlan, node: ir.Node, sizes: ir.Value, keep: Mapping[int, np.ndarray], rank: int) -> ir.Value:
    """Return computed sizes in which axes merged with a dynamic one are scaled by the share that is kept."""
    factors = [[int(count(keep[i])) if i in keep else 1 for i in range(rank)] for count in (np.sum, np.size)]
    for op, factor in zip(("Mul", "Div"), factors, strict=True):
        constant = plan.constant(np.array(factor, np.int64), f"{node.name}_share")
        scaled = plan.node(op, [sizes, constant], f"{node.name}_share_{op.lower()}")
        plan.model.graph.insert_before(node, scaled)
        sizes = scaled.outputs[0]
    return sizes


def _split(plan: CutPlan, node: ir.Node) -> None:
    first = node.inputs[0]
    assert first is not None
    axis = node.attributes.get_int("axis", 0) % len(plan.trace.shape(first))
    if axis not in plan.keep(first):
        return
    sizes = [plan.shape(v)[axis] for v in node.outputs]
    if plan.model.opset_imports.get("", 1) < 13:
        node.attributes["split"] = ir.AttrInt64s("split", sizes)
        return
    node.attributes.pop("num_outputs", None)
    if len(node.inputs) < 2:
        node.resize_inputs(2)
    node.replace_input_with(1, plan.constant(np.array(sizes, np.int64), node.name or "split"))


def _slice(plan: CutPlan, node: ir.Node) -> None:
    source = node.inputs[0]
    assert source is not None
    original = plan.original(node)
    keep, found = plan.keep(source), slices(plan.trace, original)
    if not any(axis in keep for axis in found):
        return
    columns: list[list[int]] = [[], [], [], []]
    for axis, bounds in found.items():
        if bounds is None:
            raise ValueError(f"{node.name} has computed bounds")
        first, last, step = bounds
        if axis in keep:
            positions = taken_positions(bounds, len(keep[axis]))
            first, last = int(keep[axis][: positions[0]].sum()), int(keep[axis][: positions[-1] + 1].sum())
            if step != 1:
                _pick(plan, node, axis, positions)
                first, last, step = 0, 2**31 - 1, 1
        for column, number in zip(columns, (first, last, axis, step), strict=True):
            column.append(number)
    if len(node.inputs) < 2:
        for name, column in zip(("starts", "ends", "axes"), columns, strict=False):
            node.attributes[name] = ir.AttrInt64s(name, column)
        return
    node.resize_inputs(5)
    for slot, column in enumerate(columns, start=1):
        node.replace_input_with(slot, plan.constant(np.array(column, np.int64), node.name or "slice"))


def _pick(plan: CutPlan, node: ir.Node, axis: int, positions: np.ndarray) -> None:
    """Insert a Gather before a strided Slice, because the kept positions need not lie at equal distances."""
    original = plan.original(node)
    source, keep = node.inputs[0], plan.keep(original.inputs[0])[axis]
    moved = np.cumsum(keep) - 1
    chosen = np.array([moved[i] for i in positions.tolist() if keep[i]], np.int64)
    picked = plan.constant(chosen, node.name or "slice")
    gather = plan.node("Gather", [source, picked], f"{node.name}_steps", axis=axis)
    plan.model.graph.insert_before(node, gather)
    node.replace_input_with(0, gather.outputs[0])


def _gather(plan: CutPlan, node: ir.Node) -> None:
    data, picked = node.inputs[0], node.inputs[1]
    assert data is not None
    axis = node.attributes.get_int("axis", 0) % len(plan.trace.shape(data))
    keep = plan.keep(data).get(axis)
    if keep is None:
        return
    indices = plan.trace.known(picked)
    if indices is None:
        raise ValueError(f"{node.name} picks computed positions")
    moved = np.cumsum(keep) - 1
    chosen = np.array([moved[i] for i in indices.tolist() if keep[i]], np.int64)
    node.replace_input_with(1, plan.constant(chosen, node.name or "gather"))


def _original_sizes(plan: CutPlan, node: ir.Node) -> None:
    """Replace sizes that are read from shrunk values by the sizes of the original."""
    output = node.outputs[0]
    known = plan.trace.known(output)
    if known is not None:
        output.replace_all_uses_with(plan.constant(known.astype(np.int64), node.name or "shape"))
        return
    both = [p.values.get(output.name or "") for p in (plan.trace.first, plan.trace.second)]
    if node.op_type == "Size" or both[0] is None or both[1] is None:
        raise ValueError(f"{node.name} reads a size that changes")
    fixed = plan.constant(both[0] == both[1], f"{node.name}_is_fixed")
    sizes = plan.constant(both[0].astype(np.int64), node.name or "shape")
    chosen = plan.node("Where", [fixed, sizes, output], f"{node.name}_original")
    for user, slot in [u for u in output.uses() if u[0] is not chosen]:
        user.replace_input_with(slot, chosen.outputs[0])
    plan.model.graph.insert_after(node, chosen)


_RULES: Mapping[str, Callable[[CutPlan, ir.Node], None]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _group),
    "GroupNormalization": _norm_groups,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _hidden_size),
    "ReduceMean": _mean,
    "RMSNormalization": _root_mean_square,
    "Attention": _attention,
    **dict.fromkeys(("Reshape", "Expand"), partial(_target, slot=1)),
    "ConstantOfShape": partial(_target, slot=0),
    "Resize": _resize,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    **dict.fromkeys(("Shape", "Size"), _original_sizes),
}
"""Rewrites of nodes whose inputs or outputs shrink, by operator."""
