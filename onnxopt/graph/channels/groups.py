"""Channel groups, derived from labels: units on the same axes, from the same nodes, frozen for the same reason."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Vector
from onnxopt.graph.channels.trace import Trace, Unit

Place = tuple[str, int, tuple[tuple[int, ...], ...]]
"""Name of an initializer or value, an axis of it, and the positions of each unit on that axis."""
_MOST_TELLING: tuple[Unit, ...] = ("hidden", "head", "group", "head-dimension", "group-channel")


@dataclass(frozen=True)
class ChannelGroup:
    """Units that can be removed one by one, each with all its positions in the graph.

    Attributes:
        name: the node whose weights produce the channels; the first of several.
        size: number of units.
        members: the weights that shrink, as initializer, axis and positions per unit.
        consumers: values whose removed positions count as zero.
        frozen: the reason why no unit can be removed; None if units can be removed.
        sources: all nodes whose weights produce the channels.
        unit: the kind of unit.
    """

    name: str
    size: int
    members: tuple[Place, ...]
    consumers: tuple[Place, ...]
    frozen: str | None
    sources: tuple[str, ...] = ()
    unit: Unit = "channel"


@dataclass(frozen=True)
class Channels:
    """The groups of a model with the labels they are derived from; `roots` are the classes of each group's units."""

    model: ir.Model
    trace: Trace
    groups: tuple[ChannelGroup, ...]
    roots: tuple[tuple[int, ...], ...]


def grouped(model: ir.Model, trace: Trace) -> Channels:
    """Collect the positions of each class; classes with the same axes, sources and reason form a group."""
    labels, sources = trace.labels, dict[int, dict[str, None]]()
    for node, vector in trace.sources:
        for root in labels.roots(vector).tolist():
            sources.setdefault(root, {})[node] = None
    look = _Look(trace)
    members = _places(((n, i, v) for (n, i), v in trace.members.items()), look)
    consumers = _places(trace.consumers, look)
    seen = dict[int, list[int]]()
    for key in {look.key(v): None for axes in trace.axes.values() for v in axes if v is not None}:
        for root in look.positions[key]:
            seen.setdefault(root, []).append(key)
    units = _units(trace, sources)
    kinds = dict[tuple[object, ...], list[int]]()
    for root, begun in sources.items():
        # All units of a group are on the same axes, so no axis becomes empty while each group keeps a unit.
        alike = (tuple(begun), frozenset(seen.get(root, ())), labels.reason(root), units.get(root))
        kinds.setdefault(alike, []).append(root)
    groups, classes, taken = [], [], dict[str, int]()
    for roots in kinds.values():
        first, nodes = roots[0], tuple(sources[roots[0]])
        taken[nodes[0]] = taken.get(nodes[0], 0) + 1
        name = nodes[0] if taken[nodes[0]] == 1 else f"{nodes[0]}#{taken[nodes[0]]}"
        both = [
            tuple((n, i, tuple(found[r][n, i] for r in roots)) for n, i in found.get(first, {}))
            for found in (members, consumers)
        ]
        unit = units.get(first, "channel")
        groups.append(ChannelGroup(name, len(roots), both[0], both[1], labels.reason(first), nodes, unit))
        classes.append(tuple(roots))
    return Channels(model, trace, tuple(groups), tuple(classes))


class _Look:
    """Positions of the classes that begin at nodes, stored once for all axes with equal labels."""

    def __init__(self, trace: Trace) -> None:
        self.labels, self.keys = trace.labels, dict[bytes, int]()
        self.begun = trace.labels.among(v for _, v in trace.sources)
        self.positions: list[dict[int, tuple[int, ...]]] = []

    def key(self, vector: Vector) -> int:
        """Return the key of an axis in `positions`: the same number for axes with the same classes."""
        roots = self.labels.roots(vector)
        key = self.keys.setdefault(roots.tobytes(), len(self.keys))
        if key == len(self.positions):
            found = dict[int, list[int]]()
            for position in np.flatnonzero(self.begun[roots]).tolist():
                found.setdefault(int(roots[position]), []).append(position)
            self.positions.append({root: tuple(there) for root, there in found.items()})
        return key


def _places(
    vectors: Iterable[tuple[str, int, Vector]], look: _Look
) -> dict[int, dict[tuple[str, int], tuple[int, ...]]]:
    found = dict[int, dict[tuple[str, int], tuple[int, ...]]]()
    for name, axis, vector in vectors:
        for root, there in look.positions[look.key(vector)].items():
            found.setdefault(root, {}).setdefault((name, axis), there)
    return found


def _units(trace: Trace, sources: dict[int, dict[str, None]]) -> dict[int, Unit]:
    """Return the kind of each unit: the most specific one that the trace noted for it."""
    ops = {node.name: node.op_type for node in trace.model.graph}
    split = {r for vector, _ in trace.splits.values() for r in trace.labels.roots(vector).tolist()}
    found = dict[int, Unit]()
    for unit in _MOST_TELLING:
        passing = np.flatnonzero(trace.labels.among(v for kind, v in trace.kinds if kind == unit)).tolist()
        for root in passing:
            # A product of activations need not be attention: without a node that splits into heads, units are channels.
            convolved = any(ops[n] == "Conv" for n in sources.get(root, ()))
            if root in split or unit not in ("head", "head-dimension") or (unit == "head" and not convolved):
                found.setdefault(root, unit)
    return found
