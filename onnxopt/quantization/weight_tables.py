"""Tables of embeddings whose rows are integers in blocks: GatherBlockQuantized."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import add_weight, tensor_in
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.model_file.streamed import Latest, streamed_tensors
from onnxopt.quantization.rounding.blockwise import Blocks, row_forms
from onnxopt.quantization.weight_products import DOMAIN, Packing, Products

_BLOCKS = (128, 64, 32, 16)
"""Sizes of blocks that the runtime has for tables."""

RowRounding = Callable[[np.ndarray, int], Blocks]
"""Takes a table (rows, features) and the size of a block."""


def table_obstacle(node: ir.Node, least: int) -> str:
    """Return the reason why the table of a Gather stays in float; "" if it need not.

    Args:
        node: a Gather.
        least: fewest elements of a table.
    """
    table = node.inputs[0]
    if table is None or table.const_value is None or table.is_graph_input() or table.is_graph_output():
        return "it looks up no weight"
    if table.const_value.dtype is not ir.DataType.FLOAT or len(table.const_value.shape) != 2:
        return "its table is not a float32 matrix"
    if table.const_value.size < least:
        return f"its table has fewer than {least} elements"
    if not all(_looks_up_rows(reader, slot) for reader, slot in table.uses()):
        return "its table is not read by rows alone"
    if not _block_of(int(table.const_value.shape.numpy()[1]), _BLOCKS[0]):
        return f"its rows are no multiple of {_BLOCKS[-1]} wide"
    return ""


def _looks_up_rows(node: ir.Node, slot: int) -> bool:
    return node.op_type == "Gather" and not node.domain and slot == 0 and node.attributes.get_int("axis", 0) == 0


def _block_of(width: int, most: int) -> int:
    """Return the largest block of at most `most` that divides rows of this width: the runtime pads no rows."""
    return next((size for size in _BLOCKS if size <= most and width % size == 0), 0)


class Tables:
    """Writes look-ups of stored integers in the place of Gather; a table of several is stored once.

    A product with the same matrix, the last one of many language models, shares its integers with the table.

    Args:
        model: edited in place.
        packing: the storage of weights.
        latest: store of tables that are computed when they are written; None computes them now.
        products: the products of the model, already replaced.
    """

    def __init__(self, model: ir.Model, packing: Packing, latest: Latest | None, products: Products) -> None:
        self._model, self._packing, self._latest, self._products = model, packing, latest, products
        self._stored = dict[str, tuple[list[ir.Value], int, bool]]()

    def replace(self, node: ir.Node, rounding: RowRounding) -> str:
        """Replace `node`, which has no obstacle; return the action."""
        table = node.inputs[0]
        assert table is not None
        before, name = tensor_in(table).nbytes, table.name or ""
        if name not in self._stored:
            self._stored[name] = self._shared(node, table) or self._own(table, rounding)
        values, block, shared = self._stored[name]
        numbers = {"gather_axis": 0, "quantize_axis": 1, "block_size": block, "bits": self._packing.bits}
        attributes = [ir.AttrInt64(key, number) for key, number in numbers.items()]
        # The order of inputs: integers, rows, scales, zero points.
        inputs = [values[0], node.inputs[1], *values[1:]]
        new, old = ir.Node(DOMAIN, "GatherBlockQuantized", inputs, attributes, name=node.name), node.outputs[0]
        ir.convenience.replace_nodes_and_values(self._model.graph, node, [node], [new], [old], [new.outputs[0]])
        if shared:
            return f"table in {self._packing.bits} bits, the integers of the product with the same matrix"
        after = sum(value.const_value.nbytes for value in values if value.const_value is not None)
        return f"table in {self._packing.bits} bits, {before} bytes to {after}"

    def _shared(self, node: ir.Node, table: ir.Value) -> tuple[list[ir.Value], int, bool] | None:
        """Return the integers, scales and zero points of a product with this matrix, as rows; None without one."""
        rows, width = (int(size) for size in tensor_in(table).shape.numpy())
        if width % self._packing.block:
            return None
        found = self._products.with_rows_of(table)
        if found is None:
            return None
        writer = NodeWriter(self._model, f"{table.name}_rows")
        # Before every node, because other look-ups may come earlier than this one.
        writer.anchor = self._model.graph[0]
        shape = writer.constant([rows, -1])
        return [writer("Reshape", value, shape) for value in found], self._packing.block, True

    def _own(self, table: ir.Value, rounding: RowRounding) -> tuple[list[ir.Value], int, bool]:
        tensor, bits = tensor_in(table), self._packing.bits
        rows, width = (int(size) for size in tensor.shape.numpy())
        block = _block_of(width, self._packing.block)
        made = streamed_tensors(
            tensor, lambda array: rounding(array, block).rows(), row_forms(rows, width, bits, block), self._latest
        )
        graph = self._model.graph
        return [add_weight(graph, f"{table.name}_rows_{kind}{bits}", one) for kind, one in made.items()], block, False
