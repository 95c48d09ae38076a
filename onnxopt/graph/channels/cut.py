"""Remove channels physically, or mask them: both must give the same outputs."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, UsageError, nearest
from onnxopt.graph.channels.find import COPY_MARK, Channels
from onnxopt.graph.channels.plan import CutPlan
from onnxopt.graph.channels.rewrite import rewrite
from onnxopt.graph.edit import set_weight
from onnxopt.graph.probe import probe

Kept = Mapping[str, Sequence[int]]
"""Units to keep, per group; all units of other groups are kept."""


def cut_channels(channels: Channels, kept: Kept) -> ir.Model:
    """Return a smaller model with only the `kept` units.

    Raises:
        ModelError: ONX305 the graph cannot be rewritten for these units.
    """
    plan = _planned(channels, kept)
    try:
        _carry_out(plan)
    except (LookupError, ValueError, TypeError) as error:
        raise ModelError("ONX305", "the channels cannot be removed", why=str(error)) from error
    return plan.model


def mask_channels(channels: Channels, kept: Kept) -> ir.Model:
    """Return a copy in which removed units are multiplied by zero before every consumer."""
    model = channels.model.clone()
    masks = dict[tuple[str, int], list[int]]()
    for group in channels.groups:
        removed = set(range(group.size)) - set(kept.get(group.name, range(group.size)))
        for name, axis, positions in group.consumers:
            masks.setdefault((name, axis), []).extend(p for unit in removed for p in positions[unit])
    values = {v.name: v for node in model.graph for v in node.outputs} | dict(model.graph.initializers)
    trace = channels.trace
    for number, ((name, axis), zeros) in enumerate(masks.items()):
        if not zeros:
            continue
        value, shape = values[name], trace.first.shapes[name]
        mask = np.ones([n if i == axis else 1 for i, n in enumerate(shape)], np.float32)
        mask.reshape(-1)[zeros] = 0
        kind = ir.DataType(trace.first.dtypes[name])
        weight = ir.Value(name=f"mask_{number}")
        set_weight(weight, mask.astype(kind.numpy()))
        model.graph.register_initializer(weight)
        node = ir.Node("", "Mul", [value, weight], name=f"mask_node_{number}")
        node.outputs[0].name = f"masked_{number}"
        for user, slot in [u for u in value.uses() if u[0] is not node]:
            user.replace_input_with(slot, node.outputs[0])
        producer = value.producer()
        if producer is None:
            model.graph.insert_before(model.graph[0], node)
        else:
            model.graph.insert_after(producer, node)
        values[name] = node.outputs[0]
    return model


def _planned(channels: Channels, kept: Kept) -> CutPlan:
    known = {group.name: group for group in channels.groups}
    for name in kept:
        if name not in known:
            raise UsageError("ONX102", "no channel group has this name", where=name, hint=nearest(name, known))
        if known[name].frozen is not None:
            raise ModelError("ONX305", "these channels are frozen", where=name, why=known[name].frozen or "")
    removed = list[int]()
    for group, roots in zip(channels.groups, channels.roots, strict=True):
        stay = set(kept.get(group.name, range(group.size)))
        removed.extend(root for unit, root in enumerate(roots) if unit not in stay)
    gone, keeps = channels.trace.labels.among([np.array(removed, np.int64)]), dict[str, dict[int, np.ndarray]]()
    for name, axes in channels.trace.axes.items():
        for axis, vector in enumerate(axes):
            if vector is None:
                continue
            keep = ~gone[channels.trace.labels.roots(vector)]
            if not keep.any():
                raise ModelError("ONX305", "nothing would be left of an axis", where=name)
            if not keep.all():
                keeps.setdefault(name, {})[axis] = keep
    return CutPlan(channels.trace, channels.model.clone(), keeps)


def _carry_out(plan: CutPlan) -> None:
    graph = plan.model.graph
    for node in list(graph):
        rewrite(plan, node)
    for name, weight in graph.initializers.items():
        if plan.keep(weight) and weight.const_value is not None:
            array = weight.const_value.numpy()
            for axis, positions in plan.keeps[name].items():
                array = np.compress(positions, array, axis)
            set_weight(weight, array)
    for node in graph:
        for value in node.outputs:
            keep = plan.keep(value)
            if keep and value.shape is not None:
                sizes = enumerate(value.shape)
                value.shape = ir.Shape(int(keep[i].sum()) if i in keep and isinstance(d, int) else d for i, d in sizes)
    _tidy(plan)
    _verify(plan)


def _tidy(plan: CutPlan) -> None:
    """Remove constants without readers, and copies that are equal to their originals."""
    weights = plan.model.graph.initializers
    for name, value in list(weights.items()):
        origin = weights.get(name.rpartition(COPY_MARK)[0])
        twins = [v.const_value for v in (origin, value) if v is not None and v.const_value is not None]
        if origin is not None and len(twins) == 2 and np.array_equal(twins[0].numpy(), twins[1].numpy()):
            value.replace_all_uses_with(origin)
        if not value.uses() and not value.is_graph_output():
            weights.pop(name)


def _verify(plan: CutPlan) -> None:
    """Compare the inferred shapes of the smaller graph with the planned ones.

    Raises:
        ModelError: ONX305 they differ.
    """
    originals = {v.name: v for node in plan.trace.model.graph for v in node.outputs}
    for which, old in enumerate((plan.trace.first, plan.trace.second)):
        new = probe(plan.model, old.fed)
        for name in new.shapes.keys() & old.shapes.keys() & originals.keys():
            if new.shapes[name] != plan.shape(originals[name], which):
                why = f"{new.shapes[name]} instead of {plan.shape(originals[name], which)}"
                raise ModelError("ONX305", "a shape is not the planned one", where=str(name), why=why)
        if new.failures > old.failures:
            raise ModelError("ONX305", "a shape does not follow after the cut")
