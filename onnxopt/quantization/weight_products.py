"""Products whose weights are integers in blocks: MatMulNBits, or the same in standard operators."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.clamped import behind, keep_apart
from onnxopt.graph.edit import add_weight, tensor_in
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.model_file.streamed import Form, Latest, array_of, streamed_tensors
from onnxopt.quantization.rounding.blockwise import Blocks, stored_forms

DOMAIN = "com.microsoft"
_LEVEL = 4
"""Activations are rounded to 8 bits inside the kernel: every other level was measured to be many times slower."""
_FEW, _MANY = 4, 4096
"""Rows that are compared first, and rows compared at a time."""


def is_transposed(node: ir.Node) -> bool:
    """Return whether a product reads its weight as (outputs, features)."""
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def factor(node: ir.Node) -> tuple[ir.Value | None, bool]:
    """Return the weight of a MatMul or Gemm, and whether it is (outputs, features), as also in front of a Transpose."""
    weight, transposed = node.inputs[1], is_transposed(node)
    before = None if weight is None else weight.producer()
    if before is None or before.op_type != "Transpose" or before.domain:
        return weight, transposed
    turned = tuple(before.attributes.get_ints("perm", (1, 0))) == (1, 0)
    return (before.inputs[0], not transposed) if turned else (weight, transposed)


def product_obstacle(node: ir.Node, least: int) -> str:
    """Return the reason why the weight of a MatMul or Gemm stays in float; "" if it need not.

    Args:
        node: a MatMul or Gemm.
        least: fewest elements of a weight.
    """
    weight, _ = factor(node)
    if weight is None or weight.const_value is None or weight.is_graph_input():
        return "its second factor is not constant"
    if weight.const_value.dtype is not ir.DataType.FLOAT or len(weight.const_value.shape) != 2:
        return "its weight is not a float32 matrix"
    if weight.const_value.size < least:
        return f"its weight has fewer than {least} elements"
    if node.op_type == "Gemm":
        scales = (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0))
        if scales != (1.0, 1.0) or node.attributes.get_int("transA"):
            return "it scales or transposes its inputs"
    return ""


def take_place(node: ir.Node, new: list[ir.Node]) -> None:
    """Put nodes that compute a product in the place of a MatMul or Gemm, and add the bias of a Gemm behind them."""
    bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    old, weight = node.outputs[0], node.inputs[1]
    if bias is not None:
        new[-1].outputs[0].name = f"{old.name}_product"
        new.append(ir.Node("", "Add", [new[-1].outputs[0], bias], name=f"{node.name}_bias"))
    ir.convenience.replace_nodes_and_values(_home(node), node, [node], new, [old], [new[-1].outputs[0]])
    turned = None if weight is None else weight.producer()
    if (
        turned is not None
        and turned.op_type == "Transpose"
        and not turned.outputs[0].uses()
        and not turned.outputs[0].is_graph_output()
    ):
        _home(turned).remove(turned, safe=True)


def _home(node: ir.Node) -> ir.Graph | ir.Function:
    """Return the graph of a node, which may be one inside control flow."""
    assert node.graph is not None
    return node.graph


@dataclass(frozen=True)
class Packing:
    """The storage of weights.

    Attributes:
        bits: the bits of an integer; 2 only where `standard` is false.
        block: inputs that share a scale.
        standard: whether in standard operators, which ONNX Runtime turns to MatMulNBits when it loads the file.
    """

    bits: int
    block: int
    standard: bool

    def arrays(self, blocks: Blocks) -> dict[str, np.ndarray]:
        """Return the stored form of a weight."""
        if not self.standard:
            return blocks.arrays()
        kind = self._kind().numpy()
        integers = blocks.integers.reshape(len(blocks.integers), -1)[:, : blocks.features]
        parts = {"q": integers.astype(kind), "scale": blocks.scale, "zero": blocks.zero_point.astype(kind)}
        return {name: np.ascontiguousarray(array.T) for name, array in parts.items()}

    def forms(self, outputs: int, features: int) -> dict[str, Form]:
        """Return types and shapes of that."""
        if not self.standard:
            return stored_forms(outputs, features, self.bits, self.block)
        count, kind = -(-features // self.block), self._kind()
        shapes = {"q": (kind, (features, outputs)), "zero": (kind, (count, outputs))}
        return {"q": shapes["q"], "scale": (ir.DataType.FLOAT, (count, outputs)), "zero": shapes["zero"]}

    def _kind(self) -> ir.DataType:
        return ir.DataType.UINT4 if self.bits == 4 else ir.DataType.UINT8


class Products:
    """Writes products with stored integers in the place of MatMul and Gemm; a weight of several is stored once.

    Args:
        model: edited in place.
        packing: the storage of weights.
        latest: store of weights that are computed when they are written; None computes them now.
    """

    def __init__(self, model: ir.Model, packing: Packing, latest: Latest | None) -> None:
        self._model, self._graph, self._packing, self._latest = model, model.graph, packing, latest
        # Not by name: branches of control flow may have weights of the same name.
        self._stored = dict[tuple[ir.Value, bool], list[ir.Value]]()
        self._sources = dict[tuple[ir.Value, bool], ir.TensorProtocol]()

    def with_rows_of(self, table: ir.Value) -> list[ir.Value] | None:
        """Return the stored form of a product's weight whose outputs are the rows of `table`; None without one."""
        for key, values in self._stored.items():
            if key == (table, True) or _equal(tensor_in(table), self._sources[key], turned=not key[1]):
                return values
        return None

    def replace(
        self, node: ir.Node, blocks_of: Callable[[np.ndarray], Blocks], *, now: bool = False
    ) -> tuple[int, int]:
        """Replace `node`; return the bytes of its weight before and after.

        Args:
            node: a MatMul or Gemm with a constant matrix.
            blocks_of: quantizes a matrix of shape (outputs, features).
            now: whether the weight is computed now in any case.
        """
        weight, transposed = factor(node)
        assert weight is not None
        before, key = tensor_in(weight).nbytes, (weight, transposed)
        if key not in self._stored:
            self._sources[key] = tensor_in(weight)
            self._stored[key] = self._store(weight, transposed, blocks_of, None if now else self._latest)
        values = self._stored[key]
        features, outputs = tensor_in(weight).shape.numpy()[:: -1 if transposed else 1]
        clamp = behind(node) if self._packing.standard else None
        new = self._standard(node, values) if self._packing.standard else self._packed(node, values, features, outputs)
        take_place(node, new)
        if clamp is not None:
            keep_apart(NodeWriter(self._model, clamp.name or "clamp"), clamp)
        return before, sum(v.const_value.nbytes for v in values if v.const_value is not None)

    def _packed(self, node: ir.Node, values: list[ir.Value], features: int, outputs: int) -> list[ir.Node]:
        bits, block = self._packing.bits, self._packing.block
        attributes = {"K": features, "N": outputs, "bits": bits, "block_size": block, "accuracy_level": _LEVEL}
        numbers = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        return [ir.Node(DOMAIN, "MatMulNBits", [node.inputs[0], *values], numbers, name=node.name)]

    def _standard(self, node: ir.Node, values: list[ir.Value]) -> list[ir.Node]:
        numbers = {"axis": 0, "block_size": self._packing.block}
        floats = ir.node("DequantizeLinear", values, numbers, name=f"{node.name}_weight")
        floats.outputs[0].name = f"{node.name}_weight_floats"
        return [floats, ir.Node("", "MatMul", [node.inputs[0], floats.outputs[0]], name=node.name)]

    def _store(
        self,
        weight: ir.Value,
        transposed: bool,
        blocks_of: Callable[[np.ndarray], Blocks],
        latest: Latest | None,
    ) -> list[ir.Value]:
        """Return integers, scales and zero points of a weight."""
        tensor = tensor_in(weight)

        def packed(array: np.ndarray) -> dict[str, np.ndarray]:
            return self._packing.arrays(blocks_of(array if transposed else array.T))

        features, outputs = tensor.shape.numpy()[:: -1 if transposed else 1]
        made = streamed_tensors(tensor, packed, self._packing.forms(outputs, features), latest)
        stem, turned = f"{weight.name}_", "t" if transposed else ""
        return [add_weight(self._graph, f"{stem}{kind}{self._packing.bits}{turned}", one) for kind, one in made.items()]


def _equal(table: ir.TensorProtocol, matrix: ir.TensorProtocol, *, turned: bool) -> bool:
    """Return whether two tensors, one of them transposed if `turned`, have the same numbers."""
    shape = tuple(matrix.shape.numpy())
    if tuple(table.shape.numpy()) != (shape[::-1] if turned else shape):
        return False
    rows, others = array_of(table), array_of(matrix)
    others = others.T if turned else others
    # The first few rows mostly tell matrices apart, before a large one is read.
    starts = [0, *range(_FEW, len(rows), _MANY)]
    return all(
        np.array_equal(rows[start:end], others[start:end])
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)
    )
