"""Removable blocks: residual branches, and layers with equal input and output shapes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

import onnx_ir as ir

from onnxopt.graph.blocks.facts import BlockFacts

_SAME_DATA = (
    *("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Dropout"),
    *("QuantizeLinear", "DequantizeLinear", "Mul", "Div"),
)
"""Operators that a skip connection may pass through."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Block:
    """Nodes that can be removed as one; the output keeps its shape.

    Attributes:
        name: the common scope of its layers' names, if no other layer has it; else the name of its last node.
        end: name of the value that is cut; in a residual block the value added to the skip connection.
        slot: None in a residual block; in a plain layer the index of the input that replaces its output.
        dtype: element type of `end`.
        nodes: names of the nodes that only this block needs, in graph order.
        layers: names of those nodes that have weights.
        parameters: number of elements in the weights that only this block needs.
    """

    name: str
    end: str
    slot: int | None
    dtype: ir.DataType
    nodes: tuple[str, ...]
    layers: tuple[str, ...]
    parameters: int

    @property
    def kind(self) -> str:
        """The kind of block, in words for the user."""
        return "layer" if self.slot is not None else "residual block"

    def holds(self, other: "Block") -> bool:
        """Return whether removing this block removes `other` too."""
        return other is not self and set(other.nodes) <= set(self.nodes)


@dataclass(frozen=True)
class Fixed:
    """Nodes that look like a block but cannot be removed; `target` is the name of a node."""

    target: str
    reason: str


def blocks_of(model: ir.Model, *, layers: bool = False) -> tuple[list[Block], list[Fixed]]:
    """Return the blocks of the main graph in graph order, and similar nodes that are none, with the reason.

    A residual block is the set of nodes that only one operand of an Add or Sum needs, when another operand is its skip
    connection: the block starts from that operand, or both start from the same value. An operand that is broadcast,
    such as a mask, is no skip connection. Blocks may be nested. Nodes must have unique names.

    Args:
        model: the input model (not modified).
        layers: whether to return also single layers whose output has the shape of their input, with the normalization
            and activation that follow.
    """
    finder = _Finder(model)
    found, fixed = list[Block](), list[Fixed]()
    for node in finder.dependence.nodes:
        results = finder.residual(node) if finder.facts.is_sum(node) else []
        if layers and finder.facts.is_layer(node):
            results.append(finder.plain(node))
        found += [r for r in results if isinstance(r, Block)]
        fixed += [r for r in results if isinstance(r, Fixed)]
    residual = [set(b.nodes) for b in found if b.slot is None]
    distinct = [b for b in found if b.slot is None or set(b.nodes) not in residual]
    return _named(distinct, finder.facts.layers), fixed


class _Finder:
    def __init__(self, model: ir.Model) -> None:
        self.facts = BlockFacts(model)
        self.dependence = self.facts.dependence

    def residual(self, node: ir.Node) -> list[Block | Fixed]:
        """Return the blocks that end at a sum, or the reason why there is none; nothing where there are no layers."""
        results = [r for slot, v in enumerate(node.inputs) if v is not None for r in self._branch(node, slot, v)]
        if results:
            return [r for r in results if isinstance(r, Block)] or results[:1]
        sides = [{id(n) for n in self.facts.layers_before(v)} for v in self.dependence.data(node)]
        if any(a - b and b - a for a in sides for b in sides):
            return [Fixed(node.name or "", "both operands of this sum come from layers: neither is a skip")]
        return []

    def plain(self, node: ir.Node) -> Block | Fixed:
        """Return a layer with the single-input nodes after it, up to the last value that has the shape of its input."""
        sources = self.dependence.data(node)
        if len(sources) != 1:
            return Fixed(node.name or "", "it reads more than one value")
        value: ir.Value | None = node.outputs[0]
        last: ir.Value | None = None
        while value is not None:
            last = value if self.facts.alike(value, sources[0]) else last
            value = self._continued(value)
        if last is None:
            return Fixed(node.name or "", "its output has another shape than its input")
        gone = self.dependence.without(list(last.uses()), [last], sources)
        return self._block(node, last, list(node.inputs).index(sources[0]), gone)

    def _continued(self, value: ir.Value) -> ir.Value | None:
        """Return the output of the only reader, if that reads nothing else and is neither a layer nor last."""
        readers = self.dependence.readers(value)
        if value.is_graph_output() or len(value.uses()) != 1 or value not in readers[0].inputs:
            return None
        (reader,) = readers
        if self.facts.is_layer(reader) or len(self.dependence.data(reader)) != 1 or len(reader.outputs) != 1:
            return None
        return None if reader.outputs[0].is_graph_output() else reader.outputs[0]

    def _branch(self, node: ir.Node, slot: int, value: ir.Value) -> Iterator[Block | Fixed]:
        producer, name = value.producer(), node.name or ""
        if producer is None or self.dependence.is_constant(value):
            return
        start = next((r for s in self._companions(node, value) for r in self._root(s, producer)), None)
        if start is None:
            return
        inside = [n for n in self.facts.layers_before(value) if self.dependence.needs(n, start)]
        if not inside:
            return
        others = [v for i, v in enumerate(node.inputs) if i != slot and v is not None]
        if not any(self.facts.alike(v, node.outputs[0]) for v in others):
            if self.facts.shape(node.outputs[0]) is None:
                yield Fixed(name, "the shape of an operand cannot be inferred")
            return
        gone = self.dependence.without([(node, slot)], (), ())
        shared = [n for n in inside if id(n) not in {id(g) for g in gone}]
        if shared:
            yield Fixed(name, f"{shared[0].name} inside it is needed elsewhere too")
        else:
            yield self._block(node, value, None, gone)

    def _block(self, node: ir.Node, end: ir.Value, slot: int | None, gone: list[ir.Node]) -> Block | Fixed:
        layers = tuple(n.name or "" for n in gone if self.facts.is_layer(n))
        if len(layers) == len(self.facts.layers):
            return Fixed(node.name or "", "all layers of the model are in it")
        dtype = self.facts.dtype(end)
        if dtype not in _FLOATS:
            return Fixed(node.name or "", "its output is not of a known float type")
        names = tuple(n.name or "" for n in gone)
        return Block(node.name or "", end.name or "", slot, dtype, names, layers, self.facts.parameters(gone))

    def _root(self, value: ir.Value, end: ir.Node) -> Iterator[ir.Value]:
        """Yield the value where a skip connection starts, if `end` depends on it."""
        while not self.dependence.needs(end, value):
            before = value.producer()
            if before is None or before.op_type not in _SAME_DATA or len(self.dependence.data(before)) != 1:
                return
            value = self.dependence.data(before)[0]
        yield value

    def _companions(self, node: ir.Node, value: ir.Value) -> Iterator[ir.Value]:
        """Yield the other operands that are added to a value, in this sum and in the sums around it."""
        for other in self.dependence.data(node):
            if other is not value:
                yield from self._terms(other)
        output = node.outputs[0]
        readers = self.dependence.readers(output)
        if len(output.uses()) == 1 and not output.is_graph_output() and self.facts.is_sum(readers[0]):
            yield from self._companions(readers[0], output)

    def _terms(self, value: ir.Value) -> Iterator[ir.Value]:
        yield value
        producer = value.producer()
        if producer is not None and len(value.uses()) == 1 and self.facts.is_sum(producer):
            for part in self.dependence.data(producer):
                yield from self._terms(part)


def _named(blocks: list[Block], layers: list[ir.Node]) -> list[Block]:
    """Name blocks after the scope that their layers share, if no other layer has it."""
    scopes = list[str]()
    for block in blocks:
        step = "/" if all("/" in name for name in block.layers) else "."
        parts = zip(*(name.split(step) for name in block.layers), strict=False)
        scope = step.join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))
        others = [n.name or "" for n in layers if n.name not in block.layers]
        mine = block.slot is None and scope and not any(name.startswith(scope) for name in others)
        scopes.append(scope if mine else block.name)
    return [b if scopes.count(s) > 1 else replace(b, name=s) for b, s in zip(blocks, scopes, strict=True)]
