"""Facts about a graph for the search of blocks: layers, sums, properties of values."""

import onnx_ir as ir

from onnxopt.graph.dependence import Dependence
from onnxopt.graph.edit import constant_of, lift_constants
from onnxopt.graph.layers import WEIGHT_SLOTS
from onnxopt.graph.probe import two_probes

_SUMS = ("Add", "Sum")
_NO_LAYERS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "PRelu", "Gather")
_NOT_COUNTED = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


class BlockFacts:
    """Facts about the main graph of a model in its present state."""

    def __init__(self, model: ir.Model) -> None:
        self.dependence = Dependence(model)
        # Shapes are followed from initializers, not from Constant nodes.
        stored = model.clone()
        lift_constants(stored, every_type=True)
        self.probes = two_probes(stored)
        self.functions = set(model.functions)
        self.layers = [node for node in self.dependence.nodes if self.is_layer(node)]

    def is_layer(self, node: ir.Node) -> bool:
        """Return whether a node has weights; a node of another domain has some if it reads a constant matrix."""
        slots: tuple[int, ...] | range = WEIGHT_SLOTS.get(node.op_type, ())
        if node.op_identifier() in self.functions or (node.domain and not slots):
            slots = range(len(node.inputs))
        elif node.op_type in _NO_LAYERS:
            return False
        constants = [v for i, v in enumerate(node.inputs) if i in slots and v and self.dependence.is_constant(v)]
        return bool(self.dependence.data(node)) and any(len(self.shape(v) or (1, 1)) > 1 for v in constants)

    def is_sum(self, node: ir.Node) -> bool:
        """Return whether a node adds values that depend on data."""
        return node.op_type in _SUMS and not node.domain and len(self.dependence.data(node)) > 1

    def layers_before(self, value: ir.Value) -> list[ir.Node]:
        """Return the layers that a value depends on."""
        producer = value.producer()
        return [n for n in self.layers if producer is not None and self.dependence.precedes(n, producer)]

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """Return the shape of a value at the input sizes of the first probe; None where it cannot be inferred."""
        return self.probes[0].shapes.get(value.name or "")

    def dtype(self, value: ir.Value) -> ir.DataType:
        """Return the element type of a value; None if it is unknown."""
        return ir.DataType(self.probes[0].dtypes.get(value.name or "", value.dtype or ir.DataType.UNDEFINED))

    def alike(self, one: ir.Value, other: ir.Value) -> bool:
        """Return whether two values have one type and, at two choices of dynamic sizes, one shape."""
        if self.dtype(one) is not self.dtype(other):
            return False
        pairs = [(p.shapes.get(one.name or ""), p.shapes.get(other.name or "")) for p in self.probes]
        if all(a is not None and b is not None for a, b in pairs):
            return all(a == b for a, b in pairs)
        known = one.shape is not None and all(isinstance(d, int) or d.value is not None for d in one.shape)
        return known and one.shape == other.shape

    def parameters(self, gone: list[ir.Node]) -> int:
        """Return the number of elements in the weights that no other nodes read."""
        ids = {id(n) for n in gone}
        read = {id(v): v for n in gone for v in self.dependence.reads(n) if self.dependence.is_constant(v)}
        only = [v for v in read.values() if all(id(r) in ids for r in self.dependence.readers(v))]
        tensors = [constant_of(v) for v in only if not v.is_graph_output()]
        return sum(t.size for t in tensors if t is not None and len(t.shape) and t.dtype not in _NOT_COUNTED)
