"""Label rules of normalizations: per channel, over groups of channels, over all channels."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes
from onnxopt.graph.channels.node import freeze_rest, operand, why
from onnxopt.graph.channels.trace import Frozen, Rule, Trace


def _root_mean_square(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow a division by the root mean square, which the rewrite scales to the value of the original."""
    value, scale = operand(node, 0), operand(node, 1)
    axes = trace.of(value)
    start = node.attributes.get_int("axis", -1) % len(axes)
    if start != len(axes) - 1 or len(trace.shape(scale)) != 1 or len(node.outputs) > 1:
        return _norm_from(trace, node)
    joined = trace.labels.same((axes[-1], trace.of(scale)[0]), why(node, "joins it with channels that cannot be cut"))
    trace.consume(value, start, joined)
    return ((*axes[:-1], joined),)


def _norm_from(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    axes = trace.of(operand(node, 0))
    start = node.attributes.get_int("axis", -1) % len(axes)
    for value in node.inputs[1:]:
        trace.freeze(value, why(node, "normalizes over it"))
    for vector in axes[start:]:
        trace.labels.freeze(vector, why(node, "normalizes over it"))
    kept = tuple(v if i < start else None for i, v in enumerate(axes))
    return tuple(kept for _ in node.outputs)


def _per_channel(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow normalizations with one set of parameters per channel."""
    axes = trace.of(operand(node, 0))
    if len([v for v in node.outputs if v.uses() or v.is_graph_output()]) > 1:
        raise Frozen(why(node, "trains its statistics"))
    if len(axes) < 2:
        raise Frozen(why(node, "has no channel axis"))
    vectors = [axes[1], *(trace.of(v)[0] for v in node.inputs[1:] if v is not None)]
    joined = trace.labels.same(vectors, why(node, "joins it with channels that cannot be cut"))
    if node.op_type == "InstanceNormalization":
        freeze_rest(trace, axes, (0, 1), why(node, "normalizes over it"))
        return ((axes[0], joined, *(None for _ in axes[2:])),)
    return ((axes[0], joined, *axes[2:]),)


def _per_group(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Unite the channels of each group, because its statistics are taken over all of them."""
    axes, groups = trace.of(operand(node, 0)), node.attributes.get_int("num_groups", 1)
    freeze_rest(trace, axes, (0, 1), why(node, "normalizes over it"))
    channels = axes[1]
    for value in (operand(node, slot) for slot in (1, 2)):
        own = trace.of(value)[0]
        if own is not None and channels is not None and len(own) < len(channels):
            own = np.repeat(own, len(channels) // groups)
        elif own is not None and channels is not None:
            trace.labels.unite(channels, own)
        channels = trace.labels.same((channels, own), why(node, "joins it with channels that cannot be cut"))
    if channels is not None:
        for block in channels.reshape(groups, -1):
            trace.labels.unite_all(block)
        if len(channels) > groups:
            trace.kind("group", channels)
    return ((axes[0], channels, *(None for _ in axes[2:])),)


def _unit_length(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow a division by the length of a vector; zeros do not change the length."""
    value = operand(node, 0)
    axes = trace.of(value)
    axis = node.attributes.get_int("axis", -1) % len(axes)
    trace.consume(value, axis, axes[axis])
    return (axes,)


NORMS: Mapping[str, Rule] = MappingProxyType(
    {
        "LayerNormalization": _norm_from,
        "RMSNormalization": _root_mean_square,
        **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _per_channel),
        "GroupNormalization": _per_group,
        "LpNormalization": _unit_length,
    }
)
