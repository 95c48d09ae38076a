"""Weight-only quantization to 2, 4 or 8 bits."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import ModelError, UsageError
from onnxopt.graph.edit import constant_of, editable, tensor_in
from onnxopt.model_file import fits_protobuf, size_bytes, upgrade_opset
from onnxopt.model_file.streamed import Latest
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization.block_kernels import product_missing, table_missing
from onnxopt.quantization.normal_float import NormalFloats
from onnxopt.quantization.outcome import nodes_inside
from onnxopt.quantization.rounding.blockwise import Blocks, Rounding, by_rows, round_to_nearest, shrunk
from onnxopt.quantization.rounding.gptq import gptq
from onnxopt.quantization.rounding.hessians import MOST_FEATURES, Read, at_most, hessians, mean_squares, sweeps
from onnxopt.quantization.rounding.k_quant import k_quant
from onnxopt.quantization.rounding.stored_weights import storable_weights, store
from onnxopt.quantization.weight_products import DOMAIN, Packing, Products, factor, product_obstacle
from onnxopt.quantization.weight_tables import Tables, table_obstacle

_SINCE: Mapping[str, int] = MappingProxyType({"dequantize": 13, "standard": 21})
"""The first opset in which DequantizeLinear has a scale for each channel, and for each block, by form."""
_ROWS_SINCE = 13
"""The opset of the Reshape that shares the integers of a product with a table."""
EXCLUDED = "excluded by name"


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Quantize the weights of MatMul and Gemm to 2, 4 or 8 bits; activations stay in float.

    Transformer files shrink to a quarter or less. The runtime's MatMulNBits computes with the packed weights: it is
    fast for few rows (batch 1, token by token) and slower than INT8 for many; measure it with `onnxopt compare`. The
    result runs in ONNX Runtime only.

        MatMul(W float32)   ->   MatMulNBits(W 4 bits, a scale and a zero point for each 32)

    `tables=true` stores tables of embeddings alike. A last product with the same matrix shares its integers.

        Gather(W float32)   ->   GatherBlockQuantized(W 4 bits, a scale and a zero point for each 32)

    Products inside control flow, as a merged decoder has them in the branches of an If, are quantized too (without
    samples); one name, that of the If, excludes them all.

    `form=standard` writes the same integers in standard operators of opset 21. ONNX Runtime multiplies with them all
    the same from 1.25 on, but not where it merges a Relu or Clip into the product: those are written as Max and Min.

        Relu(MatMul(W float32))   ->   Max(MatMul(DequantizeLinear(W 4 bits)), 0)

    `form=nf4` writes 4-bit NormalFloats, as bitsandbytes does. The runtime unpacks them to floats in every run: the
    file is small, and slower than with `blocks`.

        MatMul(W float32)   ->   MatMulBnb4(W 4 bits, a largest magnitude for each 64)

    `form=dequantize` reduces the file size alone: int8 weights of convolutions, products and embedding tables with one
    scale per channel, in standard operators. The runtime converts them to float once, at load time, and the rows of a
    table at their lookup.

    Attributes:
        form: `blocks` = MatMulNBits; `standard` = DequantizeLinear in blocks and MatMul; `nf4` = MatMulBnb4, with 4
            bits; `dequantize` = int8 weights with a scale per channel, where the file gets smaller.
        bits: bits per weight; 4 has a larger error (not with `form=dequantize`), and 2 a much larger one (only with
            `form=blocks`; ONNX Runtime multiplies with them faster than with 4 bits from `block=64` on).
        block: number of inputs that share a scale (not with `form=dequantize`).
        method: `rtn` = round to nearest; `hqq` = scales fitted robustly to outliers; `k-quant` = scales searched by
            the squared error, weighted by the squares of the inputs where there are samples; `gptq` = error correction
            in later columns, needs samples; `auto` = `gptq` with samples, else `hqq`. `form=dequantize` and `form=nf4`
            always use `rtn`.
        least: smallest number of elements of a weight to quantize; scales of smaller ones exceed the saving.
        tables: quantize tables that Gather reads too (only with `form=blocks`).
        exclude: names of nodes not to quantize.
        samples: largest number of calibration samples.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Effect] = Effect.LOSSY

    form: Literal["blocks", "standard", "nf4", "dequantize"] = "blocks"
    bits: Literal[2, 4, 8] = 8
    block: Literal[32, 64, 128] = 32
    method: Literal["auto", "rtn", "hqq", "k-quant", "gptq"] = "auto"
    least: Annotated[int, Field(ge=1)] = 1024
    tables: bool = False
    exclude: tuple[str, ...] = ()
    samples: Annotated[int, Field(ge=1)] = 128

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: ONX101 one is invalid, ONX112 one does not apply to the form.
        """
        for option, value, known in (("bits", self.bits, (2, 4, 8)), ("block", self.block, (32, 64, 128))):
            if value not in known:
                hint = f"Use one of {', '.join(map(str, known))}."
                raise UsageError("ONX101", f"{option} has no such value", where=str(value), hint=hint)
        if self.form == "dequantize" and (self.bits != 8 or self.method not in ("auto", "rtn")):
            where = "bits" if self.bits != 8 else "method"
            raise UsageError("ONX112", "this option is for form=blocks", where=where, hint="Leave it out.")
        if self.form == "nf4" and (self.bits != 4 or self.method not in ("auto", "rtn")):
            where = "bits" if self.bits != 4 else "method"
            raise UsageError("ONX112", "form=nf4 has 4 bits and no method", where=where, hint="Write bits=4,form=nf4.")
        if self.form != "blocks" and (self.tables or self.bits == 2):
            where = "tables" if self.tables else "bits"
            raise UsageError("ONX112", "this option is for form=blocks", where=where, hint="Leave it out.")

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Replace every product whose weight is a constant matrix.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name, ONX114 `gptq` without samples.
        """
        if self.method == "gptq" and context.calibration is None:
            hint = "Give some with --data, or use hqq."
            raise UsageError("ONX114", "gptq needs calibration samples", where="quantize-weights", hint=hint)
        work = editable(model, self.exclude)
        try:
            work = upgrade_opset(work, max(_SINCE.get(self.form, 0), _ROWS_SINCE if self.tables else 0))
        except ModelError as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        if self.bits == 2 and (missing := product_missing(self.bits, self.block)):
            return Applied(model, (), (Skip("graph", missing),))
        return (self._stored if self.form == "dequantize" else self._products)(model, work, context)

    def _products(self, model: ir.Model, work: ir.Model, context: Context) -> Applied:
        """Replace the products of `work`, and its tables; return `model` where there are none."""
        edits, skipped, chosen = list[Edit](), list[Skip](), list[ir.Node]()
        for node in [n for n in work.graph if n.op_type in ("MatMul", "Gemm") and not n.domain]:
            if reason := self._excluded(node) or product_obstacle(node, self.least):
                skipped.append(Skip(node.name or "", reason))
            else:
                chosen.append(node)
        latest = None if fits_protobuf(work) else Latest()
        if self.form == "nf4":
            floats = NormalFloats(work, self.block, latest)
            replaced = [(node.name or "", floats.replace(node)) for node in chosen]
            edits = [Edit(name, f"weight in 4 bits, {before} bytes to {after}") for name, (before, after) in replaced]
            chosen = []
        packing = Packing(self.bits, self.block, self.form == "standard")
        writer = Products(work, packing, latest)
        for nodes, seen in self._seen(work, chosen, context):
            for node in nodes:
                moments = None if node.inputs[0] is None else seen.get(node.inputs[0].name or "")
                # A Hessian takes too much memory to be kept until the file is written.
                now = moments is not None and moments.ndim == 2
                before, after = writer.replace(node, self._rounding(moments), now=now)
                edits.append(Edit(node.name or "", f"weight in {self.bits} bits, {before} bytes to {after}"))
        self._inside(work, writer, edits, skipped)
        if self.tables:
            self._tables(work, Tables(work, packing, latest, writer), edits, skipped)
        if not edits:
            return Applied(model, (), tuple(skipped))
        _drop_unused(work)
        if not packing.standard:
            work.opset_imports.setdefault(DOMAIN, 1)
        return Applied(work, tuple(edits), tuple(skipped))

    def _inside(self, work: ir.Model, writer: Products, edits: list[Edit], skipped: list[Skip]) -> None:
        """Replace the products inside control flow, whose inputs nobody sees; add to the edits and skips."""
        for outer in list(work.graph) if self.form == "blocks" else ():
            inner = [node for node in nodes_inside(outer) if node.op_type in ("MatMul", "Gemm") and not node.domain]
            reasons = [self._excluded(outer) or product_obstacle(node, self.least) for node in inner]
            chosen = [node for node, reason in zip(inner, reasons, strict=True) if not reason]
            for node in chosen:
                writer.replace(node, self._rounding(None))
            name = outer.name or ""
            if chosen:
                edits.append(Edit(name, f"weights of {len(chosen)} products inside in {self.bits} bits"))
            left = Counter(reason for reason in reasons if reason)
            skipped += [Skip(name, f"{times} products inside: {reason}") for reason, times in left.items()]

    def _tables(self, work: ir.Model, tables: Tables, edits: list[Edit], skipped: list[Skip]) -> None:
        """Replace the tables of `work`; add to the edits and skips."""
        missing = table_missing(self.bits, self.block)
        # Others, such as those that read sizes of values, look nothing up in weights.
        looked_up = [n for n in work.graph if n.op_type == "Gather" and not n.domain and constant_of(n.inputs[0])]
        left = {node.name: missing or self._left(node) for node in looked_up}
        for node in looked_up:
            if reason := left[node.name]:
                skipped.append(Skip(node.name or "", reason))
            else:
                action = tables.replace(node, lambda rows, block: self._rounded(rows, block, None))
                edits.append(Edit(node.name or "", action))

    def _left(self, node: ir.Node) -> str:
        """Return the reason why a table stays in float; "" if it does not."""
        table = node.inputs[0]
        if table is not None and any(self._excluded(reader) for reader, _ in table.uses()):
            return EXCLUDED
        return table_obstacle(node, self.least)

    def _excluded(self, node: ir.Node) -> str:
        return EXCLUDED if node.name in self.exclude else ""

    def _stored(self, model: ir.Model, result: ir.Model, _: Context) -> Applied:
        """Store the weights of `result` in int8 where that makes the file smaller."""
        chosen, left = storable_weights(result, self.least, self.exclude)
        skipped = [Skip(name, reason) for name, reason in left.items()]
        edits = [Edit(name, f"stored as int8, {weight.bytes_saved()} bytes less") for name, weight in chosen.items()]
        latest = None if fits_protobuf(model) else Latest()
        for weight in chosen.values():
            store(result.graph, weight, latest)
        if chosen and size_bytes(result) >= size_bytes(model):
            return Applied(model, (), (*skipped, Skip("graph", "the file would not become smaller")))
        return Applied(result if edits else model, tuple(edits), tuple(skipped))

    def _seen(
        self, model: ir.Model, nodes: Sequence[ir.Node], context: Context
    ) -> Iterator[tuple[list[ir.Node], dict[str, np.ndarray]]]:
        """Yield groups of nodes with the moments of their inputs by name: Hessians, or of `k-quant` mean squares.

        A group has as many Hessians as fit in memory; later groups read the outputs of the nodes quantized before.
        """
        if self.method not in ("auto", "gptq", "k-quant") or context.calibration is None:
            yield list(nodes), {}
            return
        # One at a time: some models declare a free batch and run at one only.
        samples = context.calibration.take(min(self.samples, len(context.calibration))).with_batch_size(1)
        readers, reads = _readers(nodes)
        if self.method == "k-quant":
            yield list(nodes), mean_squares(model, list(reads.values()), samples)
            return
        small = [read for read in reads.values() if read.features <= MOST_FEATURES]
        for group in sweeps(small):
            seen = hessians(model, group, samples)
            yield [node for read in group for node in readers[read.layer]], seen
        yield [node for name, read in reads.items() if read.features > MOST_FEATURES for node in readers[name]], {}

    def _rounding(self, moments: np.ndarray | None) -> Callable[[np.ndarray], Blocks]:
        """Return the rounding of a matrix (outputs, features) whose inputs have these moments."""
        if moments is not None and self.method != "k-quant":
            return lambda matrix: gptq(matrix, moments, self.bits, self.block)
        return lambda matrix: self._rounded(matrix, self.block, moments)

    def _rounded(self, matrix: np.ndarray, block: int, importance: np.ndarray | None) -> Blocks:
        rounding: Rounding = round_to_nearest if self.method == "rtn" else shrunk
        if self.method == "k-quant":
            rounding = partial(k_quant, importance=importance)
        return by_rows(rounding, matrix, self.bits, block)


def _drop_unused(model: ir.Model) -> None:
    """Remove weights that no node reads any more."""
    for graph in model.graphs():
        for value in [v for v in graph.initializers.values() if not v.uses() and not v.is_graph_output()]:
            graph.initializers.pop(value.name or "")


def _readers(nodes: Sequence[ir.Node]) -> tuple[dict[str, list[ir.Node]], dict[str, Read]]:
    """Return the nodes that read each value, and the reading of it, both by its name."""
    readers, reads = dict[str, list[ir.Node]](), dict[str, Read]()
    for node in nodes:
        x, (weight, transposed) = node.inputs[0], factor(node)
        assert x is not None
        assert weight is not None
        name, features = x.name or "", int(tensor_in(weight).shape.numpy()[1 if transposed else 0])
        readers.setdefault(name, []).append(node)
        reads[name] = _read(name, features)
    return readers, reads


def _read(name: str, features: int) -> Read:
    return Read(name, (name,), features, lambda arrays: at_most(arrays[name].reshape(-1, features)))
