"""Follow labels through the whole graph, node by node, by the rules of each operator."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channel_labels import Axes, Labels, Vector
from onnxopt.graph.cost import Shape
from onnxopt.graph.probe import Probe


class Frozen(Exception):
    """A rule cannot follow the labels: whatever the node reads is frozen with this reason."""


@dataclass
class Trace:
    """The labels of every value, and what was met on the way.

    Attributes:
        first: shapes and constants at some dynamic sizes; `second` at others.
        choice: per node that splits an axis in several, which of the parts is to be cut; `uniform` where none is given.
        axes: labels of each value seen so far, by name.
        members: per constant and axis its labels.
        consumers: value, axis and labels wherever a sum over the axis ends the labels.
        sources: node and labels wherever weights begin them.
        splits: per node that splits an axis, the labels, and into how many parts.
    """

    model: ir.Model
    first: Probe
    second: Probe
    choice: Mapping[str, int] = field(default_factory=dict)
    uniform: int = 0
    labels: Labels = field(default_factory=Labels)
    axes: dict[str, Axes] = field(default_factory=dict)
    members: dict[tuple[str, int], Vector] = field(default_factory=dict)
    consumers: list[tuple[str, int, Vector]] = field(default_factory=list)
    sources: list[tuple[str, Vector]] = field(default_factory=list)
    splits: dict[str, tuple[Vector, int]] = field(default_factory=dict)

    def shape(self, value: ir.Value) -> Shape:
        """Return the shape in the first probe."""
        return self.first.shapes[value.name or ""]

    def known(self, value: ir.Value | None) -> np.ndarray | None:
        """Return the value of a small constant or shape computation that no dynamic size changes."""
        name = value.name if value is not None else None
        if name is None or name not in self.first.values or name not in self.second.values:
            return None
        one, other = self.first.values[name], self.second.values[name]
        return one if np.array_equal(one, other) else None

    def is_weight(self, value: ir.Value | None) -> bool:
        """Return whether a value comes from constants alone."""
        if value is None:
            return False
        node = value.producer()
        if node is None:
            return value.name in self.model.graph.initializers and not value.is_graph_input()
        return bool(node.inputs) and len(node.inputs) < 3 and all(v is None or self.is_weight(v) for v in node.inputs)

    def of(self, value: ir.Value | None) -> Axes:
        """Return the labels of a value; a constant gets new ones, which its users unite with theirs."""
        if value is None:
            return ()
        name = value.name or ""
        if name not in self.axes:
            shape = self.first.shapes.get(name, ())
            axes: Axes = tuple(None for _ in shape)
            if name in self.model.graph.initializers and not value.is_graph_input():
                axes = tuple(self.labels.fresh(size) if size > 1 else None for size in shape)
                self.members.update({(name, i): v for i, v in enumerate(axes) if v is not None})
            self.axes[name] = axes
        return self.axes[name]

    def freeze(self, value: ir.Value | None, reason: str) -> None:
        """Freeze all axes of a value."""
        for vector in self.of(value):
            self.labels.freeze(vector, reason)

    def consume(self, value: ir.Value, axis: int, vector: Vector | None) -> None:
        """Note that a node sums over `axis` of `value`, so its removed positions must count as zero."""
        if vector is not None:
            self.consumers.append((value.name or "", axis, vector))

    def run(self, rules: Mapping[str, "Rule"]) -> None:
        """Follow every node, then freeze what the outside sees."""
        for node in self.model.graph:
            self._node(node, rules)
        for output in self.model.graph.outputs:
            self.freeze(output, f"it reaches the output {output.name}")

    def _node(self, node: ir.Node, rules: Mapping[str, "Rule"]) -> None:
        label = f"{node.op_type} {node.name}"
        results: tuple[Axes, ...] = ()
        try:
            results = self._results(node, rules)
            for value, axes in zip(node.outputs, results, strict=False):
                shape = self.first.shapes.get(value.name or "")
                if shape is None or [len(v) for v in axes if v is not None] != [
                    n for n, v in zip(shape, axes, strict=True) if v is not None
                ]:
                    raise Frozen(f"{label} gives a shape that was not foreseen")
        except Frozen as frozen:
            self._stop(node, str(frozen))
            return
        except (LookupError, ValueError, TypeError):
            self._stop(node, f"{label} cannot be followed")
            return
        for position, value in enumerate(node.outputs):
            shapes = [p.shapes.get(value.name or "", ()) for p in (self.first, self.second)]
            axes = results[position] if position < len(results) else tuple(None for _ in shapes[0])
            fixed = [a == b for a, b in zip(*shapes, strict=True)]
            for vector, same in zip(axes, fixed, strict=True):
                if not same:
                    self.labels.freeze(vector, f"{label} mixes it with a dynamic size")
            self.axes[value.name or ""] = tuple(v if s else None for v, s in zip(axes, fixed, strict=True))

    def _results(self, node: ir.Node, rules: Mapping[str, "Rule"]) -> tuple[Axes, ...]:
        label = f"{node.op_type} {node.name}"
        captured = list(_captured(node))
        if captured:
            for value in captured:
                self.freeze(value, f"{label} is control flow that reads it")
            raise Frozen(f"{label} is control flow")
        if node.domain:
            raise Frozen(f"{label} is an operator of {node.domain}")
        rule = rules.get(node.op_type)
        if rule is None:
            raise Frozen(f"{label} is an operator without a rule")
        for seen in (*node.inputs, *node.outputs[:1]):
            ranks = (
                {len(p.shapes[seen.name or ""]) if seen.name in p.shapes else -1 for p in (self.first, self.second)}
                if seen
                else {0}
            )
            if -1 in ranks or len(ranks) > 1:
                raise Frozen(f"{label} has an unknown shape")
        return rule(self, node)

    def _stop(self, node: ir.Node, reason: str) -> None:
        for value in node.inputs:
            self.freeze(value, reason)
        for output in node.outputs:
            self.axes[output.name or ""] = tuple(None for _ in self.first.shapes.get(output.name or "", ()))


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Return the values that subgraphs of a node read, at any depth; those of the outside are among them."""
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type is ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    for graph in graphs:
        yield from graph.outputs
        for inner in graph.all_nodes():
            yield from (v for v in inner.inputs if v is not None)


Rule = Callable[[Trace, ir.Node], tuple[Axes, ...]]
"""Return the labels of the outputs of a node, uniting on the way those of its inputs."""
