"""Dependences in the main graph: consumers of a value, and nodes without consumers after a removal."""

from collections.abc import Collection, Iterator

import onnx_ir as ir

Use = tuple[ir.Node, int]
"""A node and the index of one of its inputs."""


class Dependence:
    """The dependences of a graph in its present state; create a new object after every edit."""

    def __init__(self, model: ir.Model) -> None:
        self.nodes = list(model.graph)
        self._position = {id(node): i for i, node in enumerate(self.nodes)}
        self._weights = {id(v) for v in model.graph.initializers.values()}
        # Nodes of a subgraph count as the main-graph node that contains them.
        self._owner = {id(inner): node for node in self.nodes for inner in _inside(node)}
        self._constant: set[int] = set()
        self._before = list[int]()
        for position, node in enumerate(self.nodes):
            read = list(self.reads(node))
            if self._makes_constants(node, read):
                self._constant.update(id(v) for v in node.outputs)
                self._before.append(0)
                continue
            bits = 1 << position
            for value in read:
                producer = value.producer()
                if producer is not None and id(producer) in self._position:
                    bits |= self._before[self._position[id(producer)]]
            self._before.append(bits)
        self._unread = {id(node) for node in self._needless(set(), set(), frozenset())}

    def reads(self, node: ir.Node) -> Iterator[ir.Value]:
        """Yield the values that a node and its subgraphs read."""
        for inner in (node, *_inside(node)):
            yield from (v for v in inner.inputs if v is not None)

    def readers(self, value: ir.Value) -> list[ir.Node]:
        """Return the nodes of the main graph that read a value."""
        return list({id(n): n for n in (self._owner.get(id(u), u) for u, _ in value.uses())}.values())

    def is_constant(self, value: ir.Value) -> bool:
        """Return whether a value is independent of data: stored, computed from stored values, or a shape."""
        return id(value) in self._weights or id(value) in self._constant

    def data(self, node: ir.Node) -> list[ir.Value]:
        """Return the inputs of a node that depend on data."""
        return [v for v in node.inputs if v is not None and not self.is_constant(v)]

    def needs(self, node: ir.Node, value: ir.Value) -> bool:
        """Return whether the outputs of `node` depend on the data in `value`."""
        bits = self._before[self._position[id(node)]]
        return any(bits >> self._position[id(r)] & 1 for r in self.readers(value))

    def precedes(self, first: ir.Node, second: ir.Node) -> bool:
        """Return whether `second` is `first` or depends on its data."""
        return bool(self._before[self._position[id(second)]] >> self._position[id(first)] & 1)

    def without(self, cut: Collection[Use], ends: Collection[ir.Value], kept: Collection[ir.Value]) -> list[ir.Node]:
        """Return the nodes that become unnecessary, in graph order.

        Args:
            cut: removed uses of values.
            ends: values that are no longer outputs of the graph.
            kept: values that are needed in any case.
        """
        ids = {(id(node), slot) for node, slot in cut}
        gone = self._needless(ids, {id(v) for v in ends}, frozenset(id(v) for v in kept))
        return [node for node in reversed(gone) if id(node) not in self._unread]

    def _needless(self, cut: set[tuple[int, int]], ends: set[int], kept: frozenset[int]) -> list[ir.Node]:
        gone, found = set[int](), list[ir.Node]()

        def unneeded(value: ir.Value) -> bool:
            if id(value) in kept or (value.is_graph_output() and id(value) not in ends):
                return False
            return all(
                id(self._owner.get(id(node), node)) in gone or (id(node), slot) in cut for node, slot in value.uses()
            )

        for node in reversed(self.nodes):
            if all(map(unneeded, node.outputs)):
                gone.add(id(node))
                found.append(node)
        return found

    def _makes_constants(self, node: ir.Node, read: list[ir.Value]) -> bool:
        if node.op_type in ("Shape", "Size") and not node.domain:
            return True
        return not node.op_type.startswith("Random") and all(map(self.is_constant, read))


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield from attribute.as_graph().all_nodes()
        elif attribute.type is ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from graph.all_nodes()
