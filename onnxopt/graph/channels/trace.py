"""Follow labels through the whole graph, node by node, by the rules of each operator."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes, Labels, Vector
from onnxopt.graph.cost import Shape
from onnxopt.graph.probe import Probe

Unit = Literal["channel", "group", "group-channel", "head", "head-dimension", "hidden"]
"""Kind of a unit: one channel of a layer, a whole group of a grouped convolution or normalization, the same channel of
every group, an attention head with its keys and values, the same dimension of every head, a state of a recurrent layer.
"""


_CARRYING = frozenset(
    ("Reshape", "Transpose", "MatMul", "Add", "Mul", "Div", "Sub", "Softmax", "Where", "Cast", "Identity", "Dropout")
)
"""Operators that keep the labels of an axis merged with a dynamic one."""


class Frozen(Exception):
    """A rule cannot follow the labels; the message is the reason for freezing the inputs of the node."""


@dataclass
class Trace:
    """The labels of every value, and the sources, sums and splits found while following them.

    Attributes:
        first: shapes and constants at one choice of the dynamic sizes; `second` at another.
        choice: the part to cut, per node that splits an axis into several; `uniform` for all other nodes.
        axes: labels of each value seen so far, by name.
        members: labels per constant and axis.
        consumers: value, axis and labels of each sum over an axis, which ends the labels.
        sources: node and labels of each layer whose weights begin labels.
        splits: labels and number of parts, per node that splits an axis.
        parts: the part that is cut, per node that splits an axis.
        kinds: kinds of units with their labels, the most specific last.
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
    parts: dict[str, int] = field(default_factory=dict)
    kinds: list[tuple["Unit", Vector]] = field(default_factory=list)
    _constant: dict[str, bool] = field(default_factory=dict)

    def shape(self, value: ir.Value) -> Shape:
        """Return the shape in the first probe."""
        return self.first.shapes[value.name or ""]

    def known(self, value: ir.Value | None) -> np.ndarray | None:
        """Return the value of a small constant or shape computation; None if it depends on a dynamic size."""
        name = value.name if value is not None else None
        if name is None or name not in self.first.values or name not in self.second.values:
            return None
        one, other = self.first.values[name], self.second.values[name]
        return one if np.array_equal(one, other) else None

    def is_weight(self, value: ir.Value | None) -> bool:
        """Return whether a value comes from constants alone."""
        if value is None:
            return False
        name, node = value.name or "", value.producer()
        if name not in self._constant:
            if node is None:
                self._constant[name] = name in self.model.graph.initializers and not value.is_graph_input()
            else:
                known = [self.is_weight(v) for v in node.inputs if v is not None]
                self._constant[name] = bool(known) and all(known)
        return self._constant[name]

    def part(self, node: ir.Node, vector: Vector, parts: int) -> int:
        """Return the index of the part to cut where a node splits an axis; the outermost is 0."""
        name = node.name or ""
        self.splits[name] = (vector, parts)
        self.parts[name] = min(self.choice.get(name, self.uniform), parts - 1)
        return self.parts[name]

    def kind(self, unit: "Unit", vector: Vector | None) -> None:
        """Record the kind of the units on an axis."""
        if vector is not None:
            self.kinds.append((unit, vector))

    def of(self, value: ir.Value | None) -> Axes:
        """Return the labels of a value; a constant gets new labels, which the nodes that read it unite with others."""
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
        """Record a sum over `axis` of `value`: its removed positions must count as zero."""
        name = value.name or ""
        if vector is not None and self.first.shapes[name][axis] != self.second.shapes[name][axis]:
            self.labels.freeze(vector, f"{name} mixes it with a dynamic size before a sum")
        elif vector is not None:
            self.consumers.append((value.name or "", axis, vector))

    def run(self, rules: Mapping[str, "Rule"]) -> None:
        """Follow every node, then freeze the outputs of the model."""
        for node in self.model.graph:
            self._node(node, rules)
        for output in self.model.graph.outputs:
            self.freeze(output, f"its channels are the model output {output.name}")

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
                    raise Frozen(f"{label} has an unexpected output shape")
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
            kept = list(axes)
            for axis, (vector, same) in enumerate(zip(axes, fixed, strict=True)):
                if vector is not None and not same and not self._repeats(node, vector, shapes[1][axis]):
                    self.labels.freeze(vector, f"{label} mixes it with a dynamic size")
                    kept[axis] = None
            self.axes[value.name or ""] = tuple(kept)

    def _repeats(self, node: ir.Node, vector: Vector, other: int) -> bool:
        """Return whether labels repeat along a dynamic axis once per sample, as on an axis of batch times heads."""
        if node.op_type not in _CARRYING:
            return False
        roots = self.labels.roots(vector)
        periods = (p for p in range(1, len(roots)) if len(roots) % p == 0 and other % p == 0)
        return any(np.array_equal(roots, np.tile(roots[:p], len(roots) // p)) for p in periods)

    def _results(self, node: ir.Node, rules: Mapping[str, "Rule"]) -> tuple[Axes, ...]:
        label = f"{node.op_type} {node.name}"
        captured = list(_captured(node))
        if captured:
            for value in captured:
                self.freeze(value, f"{label} is control flow and reads it")
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
    """Return the values that subgraphs of a node read, at any depth, including values of the main graph."""
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
"""Return the labels of the outputs of a node, after uniting labels of its inputs."""
