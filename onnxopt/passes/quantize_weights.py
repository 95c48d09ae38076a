"""Weight-only quantization to 4 or 8 bits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import ModelError, UsageError
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import freeze_weights, lift_constants, name_nodes, set_weight
from onnxopt.model_file import size_bytes, upgrade_opset
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization.rounding.blockwise import Blocks, round_to_nearest, shrunk
from onnxopt.quantization.rounding.gptq import gptq
from onnxopt.quantization.rounding.hessians import MOST_FEATURES, Read, at_most, hessians, sweeps
from onnxopt.quantization.rounding.stored_weights import choose, store

_DOMAIN = "com.microsoft"
_LEVEL = 4
"""Activations are rounded to 8 bits inside the kernel: every other level was measured to be many times slower."""


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Quantize the weights of MatMul and Gemm to 4 or 8 bits; activations stay in float.

    Transformer files shrink to a quarter or less. The runtime's MatMulNBits computes with the packed weights: it is
    fast for few rows (batch 1, token by token) and slower than INT8 for many; measure it with `onnxopt compare`. The
    result runs in ONNX Runtime only.

        MatMul(W float32)   ->   MatMulNBits(W 4 bits, a scale and a zero point for each 32)

    `form=dequantize` reduces the file size alone: int8 weights of convolutions, products and embedding tables with one
    scale per channel, in standard operators. The runtime converts them to float once, at load time, and the rows of a
    table at their lookup.

    Attributes:
        form: `blocks` = MatMulNBits; `dequantize` = int8 weights with DequantizeLinear, where the file gets smaller.
        bits: bits per weight; 4 has a larger error (`form=blocks` only).
        block: number of inputs that share a scale (`form=blocks` only).
        method: `rtn` = round to nearest; `hqq` = scales fitted robustly to outliers; `gptq` = error correction in later
            columns, needs samples; `auto` = `gptq` with samples, else `hqq`. `form=dequantize` always uses `rtn`.
        least: smallest number of elements of a weight to quantize; scales of smaller ones exceed the saving.
        exclude: names of nodes not to quantize.
        samples: largest number of calibration samples.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Effect] = Effect.LOSSY

    form: Literal["blocks", "dequantize"] = "blocks"
    bits: Literal[4, 8] = 8
    block: Literal[32, 64, 128] = 32
    method: Literal["auto", "rtn", "hqq", "gptq"] = "auto"
    least: Annotated[int, Field(ge=1)] = 1024
    exclude: tuple[str, ...] = ()
    samples: Annotated[int, Field(ge=1)] = 128

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: ONX101 one is invalid, ONX112 one does not apply to `form=dequantize`.
        """
        for option, value, known in (("bits", self.bits, (4, 8)), ("block", self.block, (32, 64, 128))):
            if value not in known:
                hint = f"Use one of {', '.join(map(str, known))}."
                raise UsageError("ONX101", f"{option} has no such value", where=str(value), hint=hint)
        if self.form == "dequantize" and (self.bits != 8 or self.method not in ("auto", "rtn")):
            where = "bits" if self.bits != 8 else "method"
            raise UsageError("ONX112", "this option is for form=blocks", where=where, hint="Leave it out.")

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Replace every product whose weight is a constant matrix.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name, ONX114 `gptq` without samples.
        """
        if self.method == "gptq" and context.calibration is None:
            hint = "Give some with --data, or use hqq."
            raise UsageError("ONX114", "gptq needs calibration samples", where="quantize-weights", hint=hint)
        work = model.clone()
        freeze_weights(work)
        lift_constants(work)
        name_nodes(work)
        require_nodes(work, self.exclude)
        if self.form == "dequantize":
            return self._stored(model, work)
        edits, skipped = list[Edit](), list[Skip]()
        packed: dict[tuple[str, bool], tuple[list[ir.Value], Blocks]] = {}
        chosen = list[ir.Node]()
        for node in [n for n in work.graph if n.op_type in ("MatMul", "Gemm") and not n.domain]:
            if reason := self._obstacle(node):
                skipped.append(Skip(node.name or "", reason))
            else:
                chosen.append(node)
        for nodes, seen in self._seen(work, chosen, context):
            for node in nodes:
                before, after = self._replace(work.graph, node, packed, seen)
                edits.append(Edit(node.name or "", f"weight in {self.bits} bits, {before} bytes to {after}"))
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
            return "its second factor is not constant"
        if weight.const_value.dtype is not ir.DataType.FLOAT or len(weight.const_value.shape) != 2:
            return "its weight is not a float32 matrix"
        if weight.const_value.size < self.least:
            return f"its weight has fewer than {self.least} elements"
        if node.op_type == "Gemm":
            scales = (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0))
            if scales != (1.0, 1.0) or node.attributes.get_int("transA"):
                return "it scales or transposes its inputs"
        return ""

    def _stored(self, model: ir.Model, work: ir.Model) -> Applied:
        """Return the weights of `work` in int8 where that makes the file smaller."""
        try:
            result = upgrade_opset(work, 13)  # the first with a scale per channel
        except ModelError as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        chosen, left = choose(result, self.least, self.exclude)
        skipped = [Skip(name, reason) for name, reason in left.items()]
        edits = [Edit(name, f"stored as int8, {weight.bytes_saved()} bytes less") for name, weight in chosen.items()]
        for weight in chosen.values():
            store(result.graph, weight)
        if chosen and size_bytes(result) >= size_bytes(model):
            return Applied(model, (), (*skipped, Skip("graph", "the file would not become smaller")))
        return Applied(result if edits else model, tuple(edits), tuple(skipped))

    def _seen(
        self, model: ir.Model, nodes: Sequence[ir.Node], context: Context
    ) -> Iterator[tuple[list[ir.Node], dict[str, np.ndarray]]]:
        """Yield groups of nodes with the Hessians of their inputs by name, as many at a time as fit in memory.

        Later groups read the outputs of the nodes quantized before.
        """
        if self.method not in ("auto", "gptq") or context.calibration is None:
            yield list(nodes), {}
            return
        # One at a time: some models declare a free batch and run at one only.
        samples = context.calibration.take(min(self.samples, len(context.calibration))).with_batch_size(1)
        readers, reads = dict[str, list[ir.Node]](), dict[str, Read]()
        for node in nodes:
            x, weight = node.inputs[0], node.inputs[1]
            assert x is not None
            assert weight is not None
            assert weight.const_value is not None
            name, features = x.name or "", int(weight.const_value.shape.numpy()[1 if _transposed(node) else 0])
            readers.setdefault(name, []).append(node)
            reads[name] = _read(name, features)
        small = [read for read in reads.values() if read.features <= MOST_FEATURES]
        for group in sweeps(small):
            seen = hessians(model, group, samples)
            yield [node for read in group for node in readers[read.layer]], seen
        yield [node for name, read in reads.items() if read.features > MOST_FEATURES for node in readers[name]], {}

    def _blocks(self, matrix: np.ndarray, hessian: np.ndarray | None) -> Blocks:
        if hessian is not None:
            return gptq(matrix, hessian, self.bits, self.block)
        return (round_to_nearest if self.method == "rtn" else shrunk)(matrix, self.bits, self.block)

    def _replace(
        self,
        graph: ir.Graph,
        node: ir.Node,
        packed: dict[tuple[str, bool], tuple[list[ir.Value], Blocks]],
        hessians: Mapping[str, np.ndarray],
    ) -> tuple[int, int]:
        """Put MatMulNBits in the place of `node`; return the bytes of the weight before and after."""
        weight = node.inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        transposed = _transposed(node)
        key = (weight.name or "", transposed)
        if key not in packed:
            matrix = weight.const_value.numpy()
            x = node.inputs[0]
            seen = hessians.get(x.name or "") if x is not None else None
            blocks = self._blocks(matrix if transposed else matrix.T, seen)
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


def _read(name: str, features: int) -> Read:
    return Read(name, (name,), features, lambda arrays: at_most(arrays[name].reshape(-1, features)))


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


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
