"""Products whose weights are integers in blocks: MatMulNBits, or the same in standard operators."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.clamped import behind, keep_apart
from onnxopt.graph.edit import set_tensor, tensor_in
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.model_file.streamed import Form, Latest, streamed_tensors
from onnxopt.quantization.rounding.blockwise import Blocks, stored_forms

DOMAIN = "com.microsoft"
_LEVEL = 4
"""Activations are rounded to 8 bits inside the kernel: every other level was measured to be many times slower."""


def is_transposed(node: ir.Node) -> bool:
    """Return whether a product reads its weight as (outputs, features)."""
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def take_place(graph: ir.Graph, node: ir.Node, new: list[ir.Node]) -> None:
    """Put nodes that compute a product in the place of a MatMul or Gemm, and add the bias of a Gemm behind them."""
    bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    old = node.outputs[0]
    if bias is not None:
        new[-1].outputs[0].name = f"{old.name}_product"
        new.append(ir.Node("", "Add", [new[-1].outputs[0], bias], name=f"{node.name}_bias"))
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, [old], [new[-1].outputs[0]])


@dataclass(frozen=True)
class Packing:
    """The storage of weights.

    Attributes:
        bits: the bits of an integer, 4 or 8.
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
        self._stored = dict[tuple[str, bool], list[ir.Value]]()

    def replace(
        self, node: ir.Node, blocks_of: Callable[[np.ndarray], Blocks], *, now: bool = False
    ) -> tuple[int, int]:
        """Replace `node`; return the bytes of its weight before and after.

        Args:
            node: a MatMul or Gemm with a constant matrix.
            blocks_of: quantizes a matrix of shape (outputs, features).
            now: whether the weight is computed now in any case.
        """
        weight = node.inputs[1]
        assert weight is not None
        before, transposed = tensor_in(weight).nbytes, is_transposed(node)
        key = (weight.name or "", transposed)
        if key not in self._stored:
            self._stored[key] = self._store(weight, transposed, blocks_of, None if now else self._latest)
        values = self._stored[key]
        features, outputs = tensor_in(weight).shape.numpy()[:: -1 if transposed else 1]
        clamp = behind(node) if self._packing.standard else None
        new = self._standard(node, values) if self._packing.standard else self._packed(node, values, features, outputs)
        take_place(self._graph, node, new)
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
        values = []
        for kind, made in streamed_tensors(tensor, packed, self._packing.forms(outputs, features), latest).items():
            value = ir.Value(name=f"{weight.name}_{kind}{self._packing.bits}{'t' if transposed else ''}")
            set_tensor(value, made)
            self._graph.register_initializer(value)
            values.append(value)
        return values
