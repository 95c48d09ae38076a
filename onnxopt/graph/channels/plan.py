"""Positions to keep, and the copy of the graph for the cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.trace import Trace
from onnxopt.graph.edit import set_weight


@dataclass
class CutPlan:
    """The positions to keep, and the copy of the graph that becomes smaller.

    Attributes:
        trace: the trace of the original.
        model: the copy.
        keeps: per value and axis that shrink, whether each position stays.
    """

    trace: Trace
    model: ir.Model
    keeps: Mapping[str, Mapping[int, np.ndarray]]
    _originals: dict[str, ir.Node] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def original(self, node: ir.Node) -> ir.Node:
        """Return the original of a node of the copy."""
        if not self._originals:
            self._originals.update((n.name or "", n) for n in self.trace.model.graph)
        return self._originals[node.name or ""]

    def keep(self, value: ir.Value | None) -> Mapping[int, np.ndarray]:
        """Return the positions to keep, per axis of a value that shrinks."""
        return self.keeps.get((value.name or "") if value is not None else "", {})

    def shape(self, value: ir.Value, which: int = 0) -> tuple[int, ...]:
        """Return the shape after the cut."""
        full = (self.trace.first, self.trace.second)[which].shapes[value.name or ""]
        keep = self.keep(value)
        # An axis merged with a dynamic one keeps the same share at any size.
        return tuple(n * int(keep[i].sum()) // len(keep[i]) if i in keep else n for i, n in enumerate(full))

    def name(self, stem: str) -> str:
        """Return an unused name for a node or value; a model may be cut more than once."""
        if not self._taken:
            for node in self.model.graph.all_nodes():
                self._taken.update(n or "" for n in (node.name, *(v.name for v in node.outputs)))
            self._taken.update(self.model.graph.initializers, (v.name or "" for v in self.model.graph.inputs))
        while stem in self._taken:
            stem += "_"
        self._taken.add(stem)
        return stem

    def node(self, op: str, inputs: Sequence[ir.Value | None], stem: str, **attributes: int) -> ir.Node:
        """Return a new node that is not yet part of the graph."""
        named = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        node = ir.Node("", op, inputs, named, name=self.name(stem))
        node.outputs[0].name = self.name(f"{stem}_output")
        return node

    def constant(self, array: np.ndarray, near: str) -> ir.Value:
        """Return a new initializer."""
        value = ir.Value(name=self.name(f"{near}_cut"))
        set_weight(value, array)
        self.model.graph.register_initializer(value)
        return value
