"""Weights of matrix products in 4 or 8 bits, block by block; activations stay floats."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import UsageError
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import lift_constants, name_nodes, set_weight
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization.blockwise import Blocks, round_to_nearest

_DOMAIN = "com.microsoft"
_LEVEL = 4
"""Activations are rounded to 8 bits inside the kernel: every other level was measured to be many times slower."""


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Weights of MatMul and Gemm become 4 or 8 bits per value: files of transformers shrink to a quarter or less.

    The runtime's MatMulNBits reads them as they are. It is fast where few rows are multiplied (batch 1, text token by
    token) and slower than INT8 for many: `onnxopt compare` tells. The result runs in ONNX Runtime only.

    Attributes:
        bits: 8, or 4, which loses more.
        block: inputs that share a scale.
        least: elements below which a weight stays; its scales would take what is saved.
        exclude: names of nodes that stay.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Effect] = Effect.LOSSY

    bits: Literal[4, 8] = 8
    block: Literal[32, 64, 128] = 32
    least: Annotated[int, Field(ge=1)] = 1024
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: ONX101 one makes no sense.
        """
        for option, value, known in (("bits", self.bits, (4, 8)), ("block", self.block, (32, 64, 128))):
            if value not in known:
                hint = f"Use one of {', '.join(map(str, known))}."
                raise UsageError("ONX101", f"{option} has no such value", where=str(value), hint=hint)

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Replace every product whose weight is a constant matrix."""
        work = model.clone()
        lift_constants(work)
        name_nodes(work)
        require_nodes(work, self.exclude)
        edits, skipped = list[Edit](), list[Skip]()
        packed: dict[tuple[str, bool], tuple[list[ir.Value], Blocks]] = {}
        for node in [n for n in work.graph if n.op_type in ("MatMul", "Gemm") and not n.domain]:
            name = node.name or ""
            if reason := self._obstacle(node):
                skipped.append(Skip(name, reason))
                continue
            before, after = self._replace(work.graph, node, packed)
            edits.append(Edit(name, f"weight in {self.bits} bits, {before} bytes to {after}"))
        if not edits:
            return Applied(model, (), tuple(skipped))
        for value in [v for v in work.graph.initializers.values() if not v.uses() and not v.is_graph_output()]:
            work.graph.initializers.pop(value.name or "")
        work.opset_imports.setdefault(_DOMAIN, 1)
        return Applied(work, tuple(edits), tuple(skipped))

    def _obstacle(self, node: ir.Node) -> str:
        if node.name in self.exclude:
            return "excluded by name"
        weight = node.inputs[1]
        if weight is None or weight.const_value is None or weight.is_graph_input():
            return "its second factor is no constant"
        if weight.const_value.dtype is not ir.DataType.FLOAT or len(weight.const_value.shape) != 2:
            return "its weight is no float32 matrix"
        if weight.const_value.size < self.least:
            return f"its weight has fewer than {self.least} elements"
        if node.op_type == "Gemm":
            scales = (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0))
            if scales != (1.0, 1.0) or node.attributes.get_int("transA"):
                return "it scales or transposes its inputs"
        return ""

    def _replace(
        self, graph: ir.Graph, node: ir.Node, packed: dict[tuple[str, bool], tuple[list[ir.Value], Blocks]]
    ) -> tuple[int, int]:
        """Put MatMulNBits in the place of `node`; return the bytes of the weight before and after."""
        weight = node.inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        transposed = bool(node.attributes.get_int("transB", 0)) if node.op_type == "Gemm" else False
        key = (weight.name or "", transposed)
        if key not in packed:
            matrix = weight.const_value.numpy()
            blocks = round_to_nearest(matrix if transposed else matrix.T, self.bits, self.block)
            packed[key] = (_registered(graph, key[0], transposed, blocks), blocks)
        values, blocks = packed[key]
        outputs, _, size = blocks.integers.shape
        attributes = {
            "K": blocks.features,
            "N": outputs,
            "bits": self.bits,
            "block_size": size,
            "accuracy_level": _LEVEL,
        }
        product = ir.Node(
            _DOMAIN,
            "MatMulNBits",
            [node.inputs[0], *values],
            [ir.AttrInt64(name, value) for name, value in attributes.items()],
            name=node.name,
        )
        new = [product]
        bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
        old = node.outputs[0]
        if bias is not None:
            product.outputs[0].name = f"{old.name}_product"
            new.append(ir.Node("", "Add", [product.outputs[0], bias], name=f"{node.name}_bias"))
        ir.convenience.replace_nodes_and_values(graph, node, [node], new, [old], [new[-1].outputs[0]])
        assert weight.const_value is not None
        return weight.const_value.nbytes, sum(v.const_value.nbytes for v in values if v.const_value is not None)


def _registered(graph: ir.Graph, name: str, transposed: bool, blocks: Blocks) -> list[ir.Value]:
    weights, scales, zeros = blocks.packed()
    # The runtime reads scales and zero points as one row after the other.
    arrays = {"q": weights, "scale": scales.reshape(-1), "zero": np.asarray(zeros, np.uint8).reshape(-1)}
    values = []
    for kind, array in arrays.items():
        value = ir.Value(name=f"{name}_{kind}{blocks.bits}{'t' if transposed else ''}")
        set_weight(value, np.ascontiguousarray(array))
        graph.register_initializer(value)
        values.append(value)
    return values
