"""Dynamic INT8 quantization."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.branches import move_into_branches
from onnxopt.graph.edit import editable
from onnxopt.graph.renamed import renamed
from onnxopt.model_file import fits_protobuf, size_bytes, upgrade_opset
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization import ort_bridge
from onnxopt.quantization.attempt import attempt, runnable_feeds
from onnxopt.quantization.built import Built, forget_types
from onnxopt.quantization.dynamic_writer import write_dynamic
from onnxopt.quantization.half import store_half, widened
from onnxopt.quantization.inner_weights import with_inner_weights
from onnxopt.quantization.kernels import proved
from onnxopt.quantization.outcome import nodes_inside, read_back
from onnxopt.quantization.placement.obstacles import dynamic_obstacles


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Quantize weights to INT8, and activations at run time; needs no samples, suits transformers and RNNs.

    ONNX Runtime's quantizer does the work. It takes no model above 1.5 GB: there, the same is written weight by weight
    for MatMul, Gemm and tables. Convolutions stay in float: the runtime has only a slow dynamic kernel for them (0.1x
    was measured).

    Attributes:
        per_channel: one scale per output channel of a weight, instead of one per tensor.
        weight_type: integer type of weights; `auto` follows the target.
        reduce_range: `yes` = 7-bit weights; `auto` reduces only the weight channels whose products could saturate on
            the target.
        op_types: operator types to quantize.
        exclude: names of nodes to keep in float.
        subgraphs: quantize inside control flow too, such as a recurrent layer in the body of a Scan.
    """

    name: ClassVar[str] = "quantize-dynamic"
    effect: ClassVar[Effect] = Effect.LOSSY

    per_channel: bool = True
    weight_type: Literal["auto", "int8", "uint8"] = "auto"
    reduce_range: Literal["auto", "yes", "no"] = "auto"
    op_types: tuple[Literal["MatMul", "Gemm", "LSTM", "Attention", "Gather"], ...] = (
        "MatMul",
        "Gemm",
        "LSTM",
        "Gather",
    )
    exclude: tuple[str, ...] = ()
    subgraphs: bool = True

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Quantize `model`; skips name the layers in float with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        known = renamed(model, self.exclude, context.teacher)
        if known.notes:
            applied = replace(self, exclude=known.names).apply(model, context)
            return replace(applied, skipped=(*(Skip(*note) for note in known.notes.items()), *applied.skipped))
        named = editable(model, self.exclude)
        weight_type = context.target.weight_type if self.weight_type == "auto" else self.weight_type
        saturates = self.reduce_range == "auto" and context.target.reduce_range
        options = ort_bridge.DynamicOptions(
            weight_type=weight_type,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range == "yes" or (saturates and weight_type == "uint8"),
            avoid_saturation=saturates and weight_type == "int8",
            op_types=self.op_types,
            exclude=self.exclude,
            subgraphs=self.subgraphs,
        )
        hints = {op: "not among the op types chosen" for op in ("MatMul", "Gemm", "LSTM") if op not in self.op_types}
        hints |= {"Conv": "dynamic quantization makes convolutions slower", "GRU": "the runtime has no INT8 GRU"}
        large = not fits_protobuf(model)
        try:
            raised = upgrade_opset(named, 11)
            before, narrow = (raised, {}) if large else widened(raised)
        except ModelError as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        if large:
            return _written(model, before, options, hints)
        folded = with_inner_weights(before, self.op_types) if self.subgraphs else None
        if folded is not None:
            applied = self._quantized(model, folded, options, hints=hints, narrow=narrow, context=context)
            if applied.edits and size_bytes(applied.model) <= size_bytes(model):
                return applied
        return self._quantized(model, before, options, hints=hints, narrow=narrow, context=context)

    def _quantized(
        self,
        model: ir.Model,
        before: ir.Model,
        options: ort_bridge.DynamicOptions,
        *,
        hints: Mapping[str, str],
        narrow: Mapping[str, ir.DataType],
        context: Context,
    ) -> Applied:
        """Return the runtime quantizer's result for `before`, a prepared form of `model`."""
        obstacles = dynamic_obstacles(before, self.op_types)
        stay = frozenset((*self.exclude, *obstacles))
        nodes = [n for n in before.graph if n.name not in stay]

        def build(more: tuple[str, ...]) -> Built:
            exclude = (*self.exclude, *obstacles, *more)
            return ort_bridge.quantize_dynamic(before, replace(options, exclude=exclude))

        try:
            made = attempt(build, _touched(nodes, self.op_types), runnable_feeds(before, context.calibration))
        except (NativeError, ModelError) as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        left = {**obstacles, **made.left}
        read = read_back(before, made.model, frozenset((*self.exclude, *left)), hints)
        outcome = proved(read, before, made.model, made.optimized)
        # The runtime's tool puts the integers of an activation into the graph of the activation itself.
        move_into_branches(made.model, ("DynamicQuantizeLinear",))
        store_half(made.model, narrow)
        edits = tuple(Edit(name, action) for name, action in outcome.quantized.items())
        skips = tuple(Skip(name, left.get(name, reason)) for name, reason in outcome.left.items())
        return Applied(made.model if edits else model, edits, skips)


def _written(model: ir.Model, named: ir.Model, options: ort_bridge.DynamicOptions, hints: Mapping[str, str]) -> Applied:
    """Return the result for a model that the quantizer does not take; `named` is changed."""
    done = write_dynamic(named, options, hints)
    forget_types(named)
    edits = tuple(Edit(name, action) for name, action in done.quantized.items())
    return Applied(named if edits else model, edits, tuple(Skip(name, reason) for name, reason in done.left.items()))


def _touched(nodes: Sequence[ir.Node], op_types: Collection[str]) -> list[ir.Node]:
    """Return the nodes that may change: those of the types, and those with sub-graphs."""
    return [n for n in nodes if n.op_type in op_types or any(True for _ in nodes_inside(n))]
