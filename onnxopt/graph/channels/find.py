"""Channel groups: the positions of all weights that belong to one channel."""

from collections.abc import Mapping

import onnx_ir as ir

from onnxopt.graph.channels.choice import Part, best
from onnxopt.graph.channels.groups import ChannelGroup, Channels, grouped
from onnxopt.graph.channels.rules import RULES
from onnxopt.graph.channels.trace import Trace
from onnxopt.graph.edit import freeze_weights, is_captured, lift_constants, name_nodes, set_weight
from onnxopt.graph.probe import two_probes

__all__ = ["COPY_MARK", "ChannelGroup", "Channels", "channels_of", "groups_of", "normalized"]

_SHARED_SMALL = 4096
COPY_MARK = "__of__"


def groups_of(model: ir.Model) -> tuple[ChannelGroup, ...]:
    """Return the channel groups of `model`, in graph order; channels that cannot be removed are in frozen groups."""
    return channels_of(model).groups


def channels_of(model: ir.Model, part: Part | None = None) -> Channels:
    """Return the groups and labels of a normalized copy of `model`.

    Args:
        model: the input model (not modified).
        part: where an axis splits into several, the one to cut: the `outer` one (heads, groups), the `inner` one
            (dimensions of a head, channels within a group), or None for the one that can remove most. Where only
            another part can be cut, that part is.
    """
    normal = normalized(model)
    probes = two_probes(normal)

    def traced(choice: Mapping[str, int], uniform: int) -> Trace:
        trace = Trace(normal, *probes, choice, uniform)
        trace.run(RULES)
        return trace

    return grouped(normal, best(traced, part))


def normalized(model: ir.Model) -> ir.Model:
    """Return a copy with named nodes, constants as initializers, and no small weight shared by two nodes."""
    copy = model.clone()
    freeze_weights(copy)
    name_nodes(copy)
    lift_constants(copy, every_type=True, captured=False)
    graph = copy.graph
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if (
            tensor is None
            or tensor.dtype is ir.DataType.STRING
            or tensor.size > _SHARED_SMALL
            or len(tensor.shape) > 1
            or is_captured(value, graph)
        ):
            continue
        number = 0
        for node, slot in list(value.uses())[1:]:
            while f"{name}{COPY_MARK}{number}" in graph.initializers:
                number += 1
            twin = ir.Value(name=f"{name}{COPY_MARK}{number}")
            set_weight(twin, tensor.numpy())
            graph.register_initializer(twin)
            node.replace_input_with(slot, twin)
    return copy
