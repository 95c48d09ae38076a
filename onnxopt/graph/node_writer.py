"""Insert new nodes and constants before an existing node, under unused names."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight


class NodeWriter:
    """Writes nodes before `anchor`; writes equal constants once.

    New nodes that read outputs of the anchor are in order only after the graph is sorted.

    Args:
        model: the model (edited in place).
        stem: prefix of all new names.
    """

    def __init__(self, model: ir.Model, stem: str) -> None:
        self._graph, self._stem = model.graph, stem
        nodes = list(model.graph.all_nodes())
        self._taken = {n.name for n in nodes} | {v.name for n in nodes for v in n.outputs}
        self._taken |= {*model.graph.initializers, *(v.name for v in model.graph.inputs)}
        self._next = dict[str, int]()
        self._constants = dict[tuple[str, bytes, tuple[int, ...]], ir.Value]()
        self.anchor: ir.Node | None = None

    def __call__(
        self,
        op: str,
        *inputs: ir.Value | None,
        domain: str = "",
        kind: ir.DataType | None = None,
        **attributes: int | float | str | Sequence[int],
    ) -> ir.Value:
        """Write a node with one output and return the output; its type is `kind`, or the type of the first input."""
        assert self.anchor is not None
        given = [ir.convenience.convert_attribute(name, value) for name, value in attributes.items()]
        node = ir.Node(domain, op, list(inputs), given, name=self._free(op))
        self._graph.insert_before(self.anchor, node)
        first = next((v for v in inputs if v is not None), None)
        output = node.outputs[0]
        output.name = f"{node.name}_output"
        output.type = ir.TensorType(kind) if kind is not None else None if first is None else first.type
        return output

    def constant(self, numbers: np.ndarray | Sequence[int] | float, dtype: type = np.int64) -> ir.Value:
        """Return an initializer of these numbers."""
        array: np.ndarray = np.asarray(numbers, dtype)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            value = ir.Value(name=self._free("constant"))
            set_weight(value, array)
            self._graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def _free(self, kind: str) -> str:
        number = self._next.get(kind, 0)
        while (name := f"{self._stem}_{kind}_{number}") in self._taken or f"{name}_output" in self._taken:
            number += 1
        self._next[kind] = number + 1
        self._taken |= {name, f"{name}_output"}
        return name
