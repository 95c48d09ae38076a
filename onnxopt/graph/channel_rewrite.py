"""Adapt single nodes to a graph that shrinks: groups, target shapes, splits, slices, indices, sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channel_moves import slices
from onnxopt.graph.channel_trace import Trace
from onnxopt.graph.edit import set_weight


@dataclass
class Plan:
    """Which positions stay, and the copy of the graph that is made smaller.

    Attributes:
        trace: of the original.
        model: the copy.
        keeps: per value and axis that shrink, whether each position stays.
    """

    trace: Trace
    model: ir.Model
    keeps: Mapping[str, Mapping[int, np.ndarray]]

    def keep(self, value: ir.Value | None) -> Mapping[int, np.ndarray]:
        """Return what stays of the axes of a value that shrink."""
        return self.keeps.get((value.name or "") if value is not None else "", {})

    def shape(self, value: ir.Value, which: int = 0) -> tuple[int, ...]:
        """Return the shape after the cut."""
        full = (self.trace.first, self.trace.second)[which].shapes[value.name or ""]
        keep = self.keep(value)
        return tuple(int(keep[i].sum()) if i in keep else n for i, n in enumerate(full))

    def constant(self, array: np.ndarray, near: str) -> ir.Value:
        """Return a new initializer."""
        name, taken = f"{near}_cut", self.model.graph.initializers
        while name in taken:
            name += "_"
        value = ir.Value(name=name)
        set_weight(value, array)
        self.model.graph.register_initializer(value)
        return value


def rewrite(plan: Plan, node: ir.Node) -> None:
    """Adapt the attributes and constants of a node to the axes that shrink.

    Raises:
        ValueError: they depend on dynamic sizes in a way that cannot be adapted.
    """
    touched = any(plan.keep(v) for v in (*node.inputs, *node.outputs))
    if not touched or node.domain:
        return
    op, first = node.op_type, node.inputs[0]
    if op in ("Conv", "ConvTranspose"):
        _group(plan, node)
    elif op in ("Reshape", "Expand"):
        _target(plan, node, 1)
    elif op == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
        _target(plan, node, 3)
    elif op == "Split":
        _split(plan, node)
    elif op == "Slice":
        _slice(plan, node)
    elif op == "Gather":
        _gather(plan, node)
    elif op in ("Shape", "Size") and first is not None:
        _original_sizes(plan, node)


def _group(plan: Plan, node: ir.Node) -> None:
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if group > 1:
        x = node.inputs[0]
        assert x is not None
        width = plan.trace.shape(x)[1] // group
        node.attributes["group"] = ir.AttrInt64("group", plan.shape(x)[1] // width)


def _target(plan: Plan, node: ir.Node, slot: int) -> None:
    """Put the sizes after the cut into a target shape; what else is computed stays computed, from original sizes."""
    given, output = node.inputs[slot], node.outputs[0]
    assert given is not None
    now, name = plan.shape(output), node.name or node.op_type
    static = plan.trace.first.fed == plan.trace.second.fed
    known = plan.trace.known(given) if static or plan.trace.is_weight(given) else None
    if known is not None:
        offset = len(now) - len(known)
        kept = (0, -1, 1) if node.op_type == "Expand" else (0, -1)
        target = [v if v in kept else now[i + offset] for i, v in enumerate(known.tolist())]
        node.replace_input_with(slot, plan.constant(np.array(target, known.dtype), name))
        return
    shrunk = np.array([axis in plan.keep(output) for axis in range(len(now))])
    if node.op_type != "Reshape" and len(now) != plan.trace.first.shapes[given.name or ""][0]:
        raise ValueError(f"the target of {name} is computed")
    if not shrunk.any() and node.op_type == "Expand":
        return
    sizes = plan.constant(np.array(now, np.int64), name)
    chosen = ir.Node("", "Where", [plan.constant(shrunk, f"{name}_shrinks"), sizes, given])
    chosen.name, chosen.outputs[0].name = f"{name}_target", f"{name}_target_shape"
    plan.model.graph.insert_before(node, chosen)
    node.replace_input_with(slot, chosen.outputs[0])


def _split(plan: Plan, node: ir.Node) -> None:
    first = node.inputs[0]
    assert first is not None
    axis = (node.attributes["axis"].as_int() if "axis" in node.attributes else 0) % len(plan.trace.shape(first))
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


def _slice(plan: Plan, node: ir.Node) -> None:
    original = next(n for n in plan.trace.model.graph if n.name == node.name)
    keep, found = plan.keep(node.inputs[0]), slices(plan.trace, original)
    if not any(axis in keep for axis in found):
        return
    columns: list[list[int]] = [[], [], [], []]
    source = node.inputs[0]
    assert source is not None
    known = plan.trace.known(original.inputs[2]) if len(node.inputs) > 2 else None
    ends = known.reshape(-1).tolist() if known is not None else original.attributes["ends"].as_ints()
    for (axis, (start, stop, step)), end in zip(found.items(), ends, strict=True):
        first, last = start, stop
        if axis in keep:
            first, last = int(keep[axis][:start].sum()), int(keep[axis][:stop].sum())
        elif plan.trace.second.shapes[source.name or ""][axis] != plan.trace.shape(source)[axis]:
            if step != 1 or start != 0 or (end >= 0 and end < 2**30):
                raise ValueError(f"{node.name} also slices a dynamic axis")
            last = 2**31 - 1
        elif step < 0:
            raise ValueError(f"{node.name} also slices backwards")
        for column, number in zip(columns, (first, last, axis, step), strict=True):
            column.append(number)
    if len(node.inputs) < 2:
        for name, column in zip(("starts", "ends", "axes"), columns, strict=False):
            node.attributes[name] = ir.AttrInt64s(name, column)
        return
    node.resize_inputs(5)
    for slot, column in enumerate(columns, start=1):
        node.replace_input_with(slot, plan.constant(np.array(column, np.int64), node.name or "slice"))


def _gather(plan: Plan, node: ir.Node) -> None:
    data, picked = node.inputs[0], node.inputs[1]
    assert data is not None
    axis = (node.attributes["axis"].as_int() if "axis" in node.attributes else 0) % len(plan.trace.shape(data))
    keep = plan.keep(data).get(axis)
    if keep is None:
        return
    indices = plan.trace.known(picked)
    if indices is None:
        raise ValueError(f"{node.name} picks computed positions")
    moved = np.cumsum(keep) - 1
    chosen = np.array([moved[i] for i in indices.tolist() if keep[i]], np.int64)
    node.replace_input_with(1, plan.constant(chosen, node.name or "gather"))


def _original_sizes(plan: Plan, node: ir.Node) -> None:
    """Let what is computed from sizes be computed from those of the original."""
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
    chosen = ir.Node("", "Where", [fixed, sizes, output], name=f"{node.name}_original")
    chosen.outputs[0].name = f"{node.name}_original_sizes"
    for user, slot in [u for u in output.uses() if u[0] is not chosen]:
        user.replace_input_with(slot, chosen.outputs[0])
    plan.model.graph.insert_after(node, chosen)
