"""Label rules of the Attention operator: heads with their keys and values, or dimensions of every head."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes, Vector
from onnxopt.graph.channels.node import freeze_rest, operand, optional, why
from onnxopt.graph.channels.trace import Frozen, Rule, Trace


def _attention(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    inputs = [operand(node, slot) for slot in range(3)]
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]) or optional(node, 4) is not None:
        raise Frozen(why(node, "keeps a cache of keys and values"))
    for value in node.inputs[6:]:
        trace.freeze(value, why(node, "reads lengths"))
    if len(trace.shape(inputs[0])) == 4:
        return (_apart(trace, node, inputs),)
    return (_packed(trace, node, inputs),)


def _apart(trace: Trace, node: ir.Node, inputs: list[ir.Value]) -> Axes:
    """Follow inputs of shape (batch, heads, time, dimension)."""
    q, k, v = (trace.of(value) for value in inputs)
    for axes in (q, k, v):
        freeze_rest(trace, axes, (0, 1, 3), why(node, "attends over it"))
    reason = why(node, "joins it with channels that cannot be cut")
    repeats = trace.shape(inputs[0])[1] // trace.shape(inputs[1])[1]
    keys = trace.labels.same((k[1], v[1]), reason)
    if keys is None and repeats == trace.shape(inputs[0])[1]:  # one key serves all heads
        heads = q[1]
    else:
        heads = trace.labels.same((q[1], None if keys is None else np.repeat(keys, repeats)), reason)
    _mask(trace, node, heads)
    trace.consume(inputs[0], 3, trace.labels.same((q[3], k[3]), reason))
    trace.kind("head-dimension", q[3])
    trace.kind("head-dimension", v[3])
    trace.kind("head", heads)
    return (q[0], heads, None, v[3])


def _packed(trace: Trace, node: ir.Node, inputs: list[ir.Value]) -> Axes:
    """Follow inputs of shape (batch, time, heads x dimension)."""
    counts = [node.attributes.get_int("q_num_heads", 1), *[node.attributes.get_int("kv_num_heads", 1)] * 2]
    reason = why(node, "joins it with channels that cannot be cut")
    axes = [trace.of(value) for value in inputs]
    for each in axes:
        freeze_rest(trace, each, (0, 2), why(node, "attends over it"))
    if any(each[2] is None for each in axes):
        trace.labels.same([None, *(each[2] for each in axes)], reason)
        return (axes[0][0], None, None)
    q, k, v = (np.asarray(each[2]).reshape(count, -1) for each, count in zip(axes, counts, strict=True))
    if trace.part(node, np.concatenate([q.ravel(), k.ravel(), v.ravel()]), 2) == 1:
        for rows in (q, k, v):
            for row in rows[1:]:
                trace.labels.unite(rows[0], row)
        trace.labels.unite(q[0], k[0])
        trace.consume(inputs[0], 2, q.ravel())
        _mask(trace, node, None)
        trace.kind("head-dimension", q[0])
        trace.kind("head-dimension", v[0])
        return (axes[0][0], None, np.tile(v[0], counts[0]))
    for rows in (q, k, v):
        for row in rows:
            trace.labels.unite_all(row)
    trace.labels.unite(k[:, 0], v[:, 0])
    trace.labels.unite(q[:, 0], np.repeat(k[:, 0], counts[0] // counts[1]))
    _mask(trace, node, q[:, 0])
    trace.kind("head", q[:, 0])
    return (axes[0][0], None, np.repeat(q[:, 0], v.shape[1]))


def _mask(trace: Trace, node: ir.Node, heads: Vector | None) -> None:
    """Unite the heads of a mask, if it has any, with those of the scores."""
    mask = optional(node, 3)
    if mask is None:
        return
    axes = trace.of(mask)
    freeze_rest(trace, axes, (len(axes) - 3,), why(node, "attends over it"))
    if len(axes) > 2 and trace.shape(mask)[-3] > 1:
        trace.labels.same((axes[-3], heads), why(node, "adds channels that cannot be cut"))


ATTENTION: Mapping[str, Rule] = MappingProxyType({"Attention": _attention})
