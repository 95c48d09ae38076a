"""Replace an attention of many nodes by one node, or by a form without the matrix of queries by keys."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnxopt.graph.attention.find import Attention, AttentionParts
from onnxopt.graph.attention.layout import HeadLayout
from onnxopt.graph.attention.result import ResultTarget
from onnxopt.graph.attention.scores import Mask
from onnxopt.graph.node_writer import NodeWriter

Core = Callable[[NodeWriter, Attention, "Flat"], ir.Value]
"""Writes the nodes that compute the result, (batch, queries, width), from queries, keys and values."""
_FLOAT = ir.DataType.FLOAT
_LEAST = -1e30
"""The runtime's Attention gives 0 to queries whose scores are all the least float; a softmax gives their mean."""


class Flat:
    """Queries, keys and values as (batch, time, width), and the bias of the scores."""

    def __init__(self, write: NodeWriter, parts: AttentionParts, bias: Callable[[], ir.Value | None]) -> None:
        self.query, self.key, self.value = (_flat(write, each) for each in (parts.query, parts.key, parts.value))
        self.scale = parts.scale
        reading = parts.query.reading
        self.heads = reading.own
        self.key_heads = parts.key.reading.own
        self.size = reading.size
        self.value_size = parts.value.reading.size
        self.bias = bias


class AttentionWriter:
    """Rewrites attentions of a model in place; writes a mask that several attentions share once."""

    def __init__(self, model: ir.Model, stem: str) -> None:
        self._model = model
        self.write = NodeWriter(model, stem)
        self._biases = dict[tuple[object, ...], ir.Value]()

    def replace(self, found: Attention, core: Core) -> None:
        """Replace an attention by the nodes that `core` writes.

        Args:
            found: the attention; its parts must be available with the heads together.
            core: writer of the new form.
        """
        parts = found.parts(apart=False)
        assert parts is not None
        old = parts.target.value
        node = old.producer()
        assert node is not None
        self.write.anchor = node
        made = core(self.write, found, Flat(self.write, parts, lambda: self._bias(found, parts)))
        new = _targeted(self.write, made, parts)
        new.shape, new.type = old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        name, old.name = old.name, new.name
        new.name = name

    def finish(self) -> None:
        """Remove nodes without readers, and sort the others."""
        RemoveUnusedNodesPass()(self._model)
        self._model.graph.sort()

    def _bias(self, found: Attention, parts: AttentionParts) -> ir.Value | None:
        """Return the bias of the scores, (batch or 1, heads or 1, queries, keys); None without masks."""
        if not found.masks:
            return None
        key = (*((m.value, m.kind, m.fill) for m in found.masks), found.queries)
        if key not in self._biases:
            total: ir.Value | None = None
            for mask in found.masks:
                one = added(self.write, mask, cleared=found.cleared)
                total = one if total is None else self.write("Add", total, one)
            assert total is not None
            rows = self._rows(found, parts)
            self._biases[key] = self.write("Expand", total, rows)
        return self._biases[key]

    def _rows(self, found: Attention, parts: AttentionParts) -> ir.Value:
        """Return the shape to which masks of one row are expanded, so that they hold for all queries."""
        write = self.write
        if len(set(found.queries)) == 1:  # at both choices of the dynamic sizes
            return write.constant([1, 1, found.queries[0], 1])
        shape = write("Shape", parts.query.value, kind=ir.DataType.INT64)
        axis = write.constant([0 if parts.query.reading.time_first else 1])
        one = write.constant([1])
        return write("Concat", one, one, write("Gather", shape, axis), one, axis=0)


def added(write: NodeWriter, mask: Mask, *, cleared: bool) -> ir.Value:
    """Return the values that a mask adds to the scores, in four dimensions.

    Args:
        write: the writer of the nodes.
        mask: a mask of one attention.
        cleared: whether queries that see no key give 0; masked scores then stay minus infinity.
    """
    value, least = mask.value, -np.inf if cleared else _LEAST
    if mask.kind == "add" and not cleared:
        value = write("Max", value, write.constant(least, np.float32))
    elif mask.kind != "add":
        fill, nothing = write.constant(max(mask.fill, least), np.float32), write.constant(0.0, np.float32)
        value = write("Where", value, *((nothing, fill) if mask.kind == "keep" else (fill, nothing)), kind=_FLOAT)
    missing = 4 - len(mask.shapes[0])
    return write("Unsqueeze", value, write.constant(list(range(missing)))) if missing else value


def _flat(write: NodeWriter, layout: HeadLayout) -> ir.Value:
    reading, value = layout.reading, layout.value
    # The shape inference of ONNX takes an unknown width of an input of Attention for 0.
    if layout.rank > 3 or value.shape is None or not isinstance(value.shape[-1], int):
        value = write("Reshape", value, write.constant([0, 0, reading.width]))
    taken = reading.own * reading.size
    if taken < reading.width:
        starts, ends = write.constant([reading.offset]), write.constant([reading.offset + taken])
        value = write("Slice", value, starts, ends, write.constant([2]))
    return write("Transpose", value, perm=[1, 0, 2]) if reading.time_first else value


def _targeted(write: NodeWriter, made: ir.Value, parts: AttentionParts) -> ir.Value:
    target: ResultTarget = parts.target
    if target.time_first:
        made = write("Transpose", made, perm=[1, 0, 2])
    size = parts.value.reading.size
    if target.rank == 2:
        return write("Reshape", made, write.constant([-1, parts.query.reading.own * size]))
    if target.rank == 4:
        return write("Reshape", made, write.constant([0, 0, parts.query.reading.own, size]))
    return made
