"""Folding of constants and scalings, removal of dead nodes, and fusion of decomposed operators."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.errors import ModelError, NativeError, first_line
from onnxopt.graph.edit import freeze_weights, name_nodes
from onnxopt.graph.merge import has_gelu, merge_operators
from onnxopt.graph.pointwise.gelu import OPSET
from onnxopt.graph.shapes import MAX_COUNTED, longest_range
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import fits_protobuf, opset_of, upgrade_opset
from onnxopt.model_file.light import give_weights_back, without_large_weights
from onnxopt.model_file.memory import weight_bytes
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization import ort_bridge

_CONSTANTS = ("ConstantFolding",)
_INTO_WEIGHTS = ("ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "MatMul_BatchNormalization_Fusion")
"""The runtime's names of the optimizations that fold others into a weight."""

_RUNTIME_CASTS = "Inserted"
"""Prefix of the names of casts that the runtime inserts around layers without a kernel for their type."""

LEAST_GROWTH_BYTES = 1 << 14
"""Largest growth of constants by folding; more only up to a twentieth of the model's size."""

LEAST_SAID_BYTES = 1 << 10
"""Largest growth that is not reported."""

_ASIDE_ABOVE_BYTES = 1 << 20
"""Of a model that is too large for one file, weights up to this size are folded as in any other."""

_STANDARD_SINCE = {"layernorm": ("LayerNormalization", 17), "gelu": ("Gelu", 20)}


@dataclass(frozen=True)
class Simplify(Pass):
    """Fold constants, batch norms and scalings, remove dead nodes, and fuse parts into standard operators.

    ONNX Runtime's basic optimizer folds, and `onnxruntime.transformers` fuses GELU and LayerNorm. Operators of the
    runtime's own set are translated to the standard set, or the change is skipped. The pass itself merges scalings and
    shifts with convolutions, the parts of hard sigmoids and GELUs, lookups written as products, operators behind a
    lookup, and shortcuts of residual networks that drop pixels and add channels of zeros.

        Conv - BatchNormalization - Relu   ->   Conv - Relu
        Div - Erf - Add - Mul - Mul        ->   Gelu
        Conv - Mul - Add                   ->   Conv
        Add - Clip - Mul - Div             ->   HardSigmoid - Mul
        Equal - Cast - MatMul              ->   Gather
        Gather - Add - Tanh                ->   Gather
        Slice - Slice - Pad                ->   Conv

    Attributes:
        fuse: whether to fuse GELU and LayerNorm, in addition to the folding.
    """

    name: ClassVar[str] = "simplify"
    effect: ClassVar[Effect] = Effect.EXACT

    fuse: bool = True

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Simplify `model`; skips name the reasons against folding or fusion.

        Large weights of a model above 1.5 GB are set aside meanwhile: nothing is folded into them, and none is read.
        """
        if not fits_protobuf(model):
            return self._without_weights(model, context)
        edits: list[Edit] = []
        skipped: list[Skip] = []
        current = model.clone()
        name_nodes(current)
        current = _folded(current, edits, skipped)
        if self.fuse:
            for pattern, (op_type, opset) in _STANDARD_SINCE.items():
                current, note = _fused(current, pattern, op_type, opset)
                if isinstance(note, Edit):
                    edits.append(note)
                elif note is not None:
                    skipped.append(note)
        current = _merged(current, edits)
        return Applied(current if edits else model, tuple(edits), tuple(skipped))

    def _without_weights(self, model: ir.Model, context: Context) -> Applied:
        light, weights = without_large_weights(model, _ASIDE_ABOVE_BYTES)
        if not fits_protobuf(light):
            light, weights = without_large_weights(model)
        if not fits_protobuf(light):
            return Applied(model, (), (Skip("graph", "its constants outside the main graph take more than 1.5 GB"),))
        applied = self.apply(light, context)
        why = f"{len(weights)} large weights were not folded into others, because the model is above 1.5 GB"
        skipped = (*applied.skipped, Skip("graph", why))
        if not applied.edits:
            return Applied(model, (), skipped)
        give_weights_back(applied.model, model, weights)
        return replace(applied, skipped=skipped)


def _ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.all_nodes())


def _stored_bytes(model: ir.Model) -> int:
    """Return the bytes of all weights, those that are attributes of nodes included."""
    attributes = (a for node in model.graph.all_nodes() for a in node.attributes.values())
    inside = sum(a.as_tensor().nbytes for a in attributes if a.type == ir.AttributeType.TENSOR and not a.is_ref())
    return weight_bytes(model) + inside


def _folded(model: ir.Model, edits: list[Edit], skipped: list[Skip]) -> ir.Model:
    candidate = model.clone()
    # A weight that is listed as an input may be overridden by the caller, so nothing that reads it could be folded.
    overridable = freeze_weights(candidate)
    if candidate.functions:
        try:
            common.InlinePass()(candidate)
        except Exception as error:  # it raises many types on functions it does not foresee, of another opset first
            skipped.append(Skip("graph", f"not folded: a function cannot be inlined: {first_line(error)}"))
            return model
    try:
        before = _stored_bytes(candidate)
        candidate, grown, why = _within_growth(candidate, before)
        if why:
            skipped.append(Skip("graph", why))
    except (NativeError, ModelError) as error:
        skipped.append(Skip("graph", f"not folded: {error.why}"))
        return model
    if any((node.name or "").startswith(_RUNTIME_CASTS) for node in candidate.graph.all_nodes()):
        skipped.append(Skip("graph", "not folded: the runtime would compute its 16-bit layers in float32"))
        return model
    name_nodes(candidate)
    foreign = {n.domain for n in candidate.graph.all_nodes()} - {n.domain for n in model.graph.all_nodes()} - {""}
    if foreign:
        skipped.append(Skip("graph", f"not folded: the runtime would write operators of {', '.join(sorted(foreign))}"))
        return model
    _keep_identity(candidate, model)
    gone = _ops(model) - _ops(candidate)
    if overridable:
        edits.append(Edit("graph", f"{overridable} weights no longer listed as model inputs"))
    if grown > LEAST_SAID_BYTES:
        edits.append(Edit("graph", f"folded constants add {grown / 1e3:.1f} kB"))
    edits.extend(Edit("graph", f"{count} {op} folded or removed") for op, count in sorted(gone.items()))
    return candidate if edits else model


def _merged(model: ir.Model, edits: list[Edit]) -> ir.Model:
    """Return the model with merged operators; its opset is raised where a GELU needs it."""
    changed = model.clone()
    if opset_of(changed) < OPSET and has_gelu(changed):
        with suppress(ModelError):
            changed = _raised(changed)
    done = merge_operators(changed)
    edits += [Edit("graph", f"{what}: {len(names)}") for what, names in done.items()]
    return changed if done else model


def _raised(model: ir.Model) -> ir.Model:
    """Return a copy at the opset of `Gelu`, without the shapes that the conversion infers: they would be stored."""
    known = {value.name for node in model.graph for value in node.outputs if value.shape is not None}
    raised = upgrade_opset(model, OPSET).clone()
    for value in [v for node in raised.graph for v in node.outputs if v.name not in known]:
        value.shape = None
    return raised


def _within_growth(model: ir.Model, before: int) -> tuple[ir.Model, int, str]:
    """Return `model` after folding, the number of bytes it grew by, and the reason for constants that were not folded.

    Folding a large range unrolls it, and folding into a weight that several nodes share copies it for each of them.
    """
    counted, why = longest_range(model), ""
    if counted > MAX_COUNTED:
        why = f"constants not folded: one of them has {counted} numbers"
    for left_out in ((), _CONSTANTS, (*_CONSTANTS, *_INTO_WEIGHTS)):
        if counted > MAX_COUNTED and not left_out:
            continue
        folded = _by_runtime(model, left_out)
        grown = _stored_bytes(folded) - before
        if grown <= max(LEAST_GROWTH_BYTES, before // 20):
            break
        what = "shared weights" if left_out else "constants"
        why = f"{what} not folded: the file would grow by {grown / 1e6:.2f} MB"
    return folded, grown, why


def _by_runtime(model: ir.Model, left_out: Sequence[str]) -> ir.Model:
    """Return `model` after ONNX Runtime's basic optimizations, without some of them."""
    options = (("optimization.disable_specified_optimizers", ";".join(left_out)),) if left_out else ()
    return optimized_model(model, Runtime(optimization="basic", options=options))


def _keep_identity(candidate: ir.Model, model: ir.Model) -> None:
    common.RemoveUnusedOpsetsPass()(candidate)
    candidate.metadata_props.update(model.metadata_props)
    candidate.graph.name, candidate.doc_string = model.graph.name, model.doc_string
    candidate.producer_name, candidate.producer_version = model.producer_name, model.producer_version
    for mine, theirs in zip(candidate.graph.outputs, model.graph.outputs, strict=True):
        mine.metadata_props.update(theirs.metadata_props)


def _fused(model: ir.Model, pattern: str, op_type: str, opset: int) -> tuple[ir.Model, Edit | Skip | None]:
    ops = _ops(model)
    if not ops[ort_bridge.FUSED_FROM[pattern]]:
        return model, None
    before = ops[op_type]
    try:
        fused = ort_bridge.fuse(model, [pattern])
        if _ops(fused)[op_type] == before:
            return model, None
        raised_from = opset_of(model)
        if raised_from < opset:
            # Raised before fusing: at the old opset the converter does not know the fused operator.
            fused = ort_bridge.fuse(upgrade_opset(model, opset), [pattern])
    except (NativeError, ModelError) as error:
        return model, Skip(op_type, f"not fused: {error.why}")
    _to_standard(fused, op_type)
    name_nodes(fused)
    note = f", opset raised from {raised_from} to {opset}" if raised_from < opset else ""
    return fused, Edit("graph", f"{_ops(fused)[op_type] - before} {op_type} fused{note}")


def _to_standard(model: ir.Model, op_type: str) -> None:
    """Move the runtime's own `op_type` nodes into the standard operator set, where it means the same."""
    for node in model.graph.all_nodes():
        if node.op_type == op_type and node.domain == "com.microsoft":
            node.domain = ""
    common.RemoveUnusedOpsetsPass()(model)
