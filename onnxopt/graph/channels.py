"""Channel groups: which positions of which weights go together when a channel is removed."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channel_rules import RULES
from onnxopt.graph.channel_trace import Trace
from onnxopt.graph.edit import freeze_weights, name_nodes, set_weight
from onnxopt.graph.probe import two_probes

Place = tuple[str, int, tuple[tuple[int, ...], ...]]
"""Name of an initializer or value, an axis of it, and per unit the positions it has there."""
_SHARED_SMALL = 4096
COPY_MARK = "__of__"


@dataclass(frozen=True)
class ChannelGroup:
    """Units that can be removed one by one, each with everything that belongs to it.

    Attributes:
        name: of the node whose weights make the channels; the first where several do.
        size: number of units.
        members: what shrinks, as initializer, axis and positions per unit.
        consumers: values whose positions count as zero once removed.
        frozen: why nothing can be removed; None when it can.
        sources: all nodes whose weights make the channels.
    """

    name: str
    size: int
    members: tuple[Place, ...]
    consumers: tuple[Place, ...]
    frozen: str | None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Channels:
    """The groups of a model with the labels they were read from; `roots` are the classes of each group's units."""

    model: ir.Model
    trace: Trace
    groups: tuple[ChannelGroup, ...]
    roots: tuple[tuple[int, ...], ...]


def groups_of(model: ir.Model) -> tuple[ChannelGroup, ...]:
    """Return the channel groups of `model`, in graph order; what cannot be removed is in groups that are frozen."""
    return channels_of(model).groups


def channels_of(model: ir.Model) -> Channels:
    """Return groups and labels of a normalized copy of `model`; where an axis splits, the choice that frees most."""
    normal = normalized(model)
    probes = two_probes(normal)

    def traced(choice: dict[str, int], uniform: int) -> Channels:
        trace = Trace(normal, *probes, choice, uniform)
        trace.run(RULES)
        return _grouped(normal, trace)

    options = [traced({}, 0)]
    parts = max((n for _, n in options[0].trace.splits.values()), default=1)
    options += [traced({}, i) for i in range(1, parts)]
    if parts > 1:
        names = options[0].trace.splits
        # The first part with at least four units, so that heads go before the dimensions of a head.
        choice = {n: max(range(len(options)), key=lambda i: (min(_free_units(options[i], n), 4), -i)) for n in names}
        options.append(traced(choice, 0))
    return max(options, key=lambda o: (_removable(o), o is options[-1]))


def _free_units(channels: Channels, node: str) -> int:
    trace = channels.trace
    if node not in trace.splits:
        return 0
    return sum(trace.labels.reason(r) is None for r in np.unique(trace.labels.roots(trace.splits[node][0])).tolist())


def _removable(channels: Channels) -> int:
    """Return the elements of weights in axes that can shrink."""
    total = 0
    for group in channels.groups:
        if group.frozen is None and group.size > 1:
            for name, axis, positions in group.members:
                shape = channels.trace.first.shapes[name]
                total += sum(map(len, positions)) * int(np.prod(shape)) // shape[axis]
    return total


def normalized(model: ir.Model) -> ir.Model:
    """Return a copy with named nodes, constants as initializers, and no small weight shared by two nodes."""
    copy = model.clone()
    freeze_weights(copy)
    name_nodes(copy)
    graph = copy.graph
    for node in [n for n in graph if n.op_type == "Constant" and not n.domain]:
        output = node.outputs[0]
        array = _constant(node)
        if array is None or output.is_graph_output() or _captured(output, graph):
            continue
        weight = ir.Value(name=output.name)
        set_weight(weight, array)
        output.replace_all_uses_with(weight)
        graph.remove(node, safe=True)
        graph.register_initializer(weight)
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if (
            tensor is None
            or tensor.dtype is ir.DataType.STRING
            or tensor.size > _SHARED_SMALL
            or len(tensor.shape) > 1
            or _captured(value, graph)
        ):
            continue
        for number, (node, slot) in enumerate(list(value.uses())[1:]):
            twin = ir.Value(name=f"{name}{COPY_MARK}{number}")
            set_weight(twin, tensor.numpy())
            graph.register_initializer(twin)
            node.replace_input_with(slot, twin)
    return copy


def _captured(value: ir.Value, graph: ir.Graph) -> bool:
    return any(node.graph is not graph for node, _ in value.uses())


def _constant(node: ir.Node) -> np.ndarray | None:
    attributes = node.attributes
    if "value" in attributes:
        tensor = attributes["value"].as_tensor()
        return None if tensor.dtype is ir.DataType.STRING else tensor.numpy()
    for name, kind in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in attributes:
            return np.array(attributes[name].value, kind)
    return np.array(attributes["value_floats"].value, np.float32) if "value_floats" in attributes else None


def _grouped(model: ir.Model, trace: Trace) -> Channels:
    """Collect what belongs to each class; those with the same axes, sources and reason are a group."""
    labels = trace.labels
    sources = dict[int, dict[str, None]]()
    for node, vector in trace.sources:
        for root in labels.roots(vector).tolist():
            sources.setdefault(root, {})[node] = None
    members = _places(((n, i, v) for (n, i), v in trace.members.items()), trace, sources)
    consumers = _places(trace.consumers, trace, sources)
    everywhere = ((name, i, v) for name, axes in trace.axes.items() for i, v in enumerate(axes) if v is not None)
    seen = _places(everywhere, trace, sources)
    kinds = dict[tuple[object, ...], list[int]]()
    for root, begun in sources.items():
        # Every unit of a group is on the same axes, so that no axis is empty while each group keeps a unit.
        kinds.setdefault((tuple(begun), frozenset(seen.get(root, ())), labels.reason(root)), []).append(root)
    groups, classes, taken = [], [], dict[str, int]()
    for roots in kinds.values():
        nodes = tuple(sources[roots[0]])
        taken[nodes[0]] = taken.get(nodes[0], 0) + 1
        name = nodes[0] if taken[nodes[0]] == 1 else f"{nodes[0]}#{taken[nodes[0]]}"
        both = [
            tuple((n, i, tuple(tuple(found[r][n, i]) for r in roots)) for n, i in found.get(roots[0], {}))
            for found in (members, consumers)
        ]
        groups.append(ChannelGroup(name, len(roots), both[0], both[1], labels.reason(roots[0]), nodes))
        classes.append(tuple(roots))
    return Channels(model, trace, tuple(groups), tuple(classes))


def _places(
    vectors: Iterable[tuple[str, int, np.ndarray]], trace: Trace, sources: dict[int, dict[str, None]]
) -> dict[int, dict[tuple[str, int], list[int]]]:
    found = dict[int, dict[tuple[str, int], list[int]]]()
    seen = set[tuple[str, int]]()
    for name, axis, vector in vectors:
        if (name, axis) in seen:
            continue
        seen.add((name, axis))
        for position, root in enumerate(trace.labels.roots(vector).tolist()):
            if root in sources:
                found.setdefault(root, {}).setdefault((name, axis), []).append(position)
    return found
