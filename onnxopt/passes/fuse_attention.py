"""Fusion of attention into one node."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import onnx_ir as ir

from onnxopt.document import units
from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.attention.edit import AttentionWriter, Core
from onnxopt.graph.attention.find import Attention, attentions
from onnxopt.graph.attention.forms import DOMAIN, STANDARD_SINCE, runtime, standard
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.verdict import one_sample, prove, time_shares
from onnxopt.model_file import fits_protobuf, opset_of, upgrade_opset
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.samples import Feeds

_LEAST_OPSET = 13
_CORES: Mapping[str, Core] = MappingProxyType({"portable": standard, "runtime": runtime})
_NODES: Mapping[str, str] = MappingProxyType({"portable": "Attention", "runtime": "MultiHeadAttention"})
_SLOWER = 1.03
"""Ratio of times below which two models count as equally fast."""
_LEAST_MACS = 1_000_000
"""Below this, fewer nodes are faster, and the times are too short to compare."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Fuse the many nodes of an exported attention into one, unless that is slower.

    Attention is recognized by its computation: products, scales and masks are followed through any reshaping, so
    exports of torch, TensorFlow, Keras, JAX and Paddle all match. `simplify` fuses GELU and LayerNorm.

        MatMul - Mul - Add - Softmax - MatMul   ->   Attention

    Attributes:
        form: `portable` = Attention of ONNX opset 23, `runtime` = MultiHeadAttention of ONNX Runtime, `auto` = the
            faster one, or the portable one without a measurement.
        verify: measure models of over a million MACs, and undo a fusion that makes them slower.
        exclude: names of Softmax nodes whose attention is not fused.
    """

    name: ClassVar[str] = "fuse-attention"
    effect: ClassVar[Effect] = Effect.EXACT

    form: Literal["auto", "portable", "runtime"] = "auto"
    verify: bool = True
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Fuse the attentions of `model`; skips name the others with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        work = normalized(model)
        require_nodes(work, self.exclude)
        if not any(node.op_type == "Softmax" for node in work.graph):
            return Applied(model, (), (Skip("graph", "it has no attention"),))
        skipped = list[Skip]()
        feeds = one_sample(model, context.calibration)
        forms = [self.form] if self.form != "auto" else list(_CORES)
        results, differences = dict[str, ir.Model](), dict[str, float]()
        edits, reasons = dict[str, list[Edit]](), dict[str, list[Skip]]()
        for form in forms:
            result, edits[form], reasons[form] = self._fused(work, form)
            if not edits[form]:
                continue
            differences[form], against = prove(model, result, feeds)
            if against:
                reasons[form].append(Skip("graph", f"{form}: {against}"))
            else:
                results[form] = result
        if not results:
            return Applied(model, (), tuple(dict.fromkeys(skip for form in forms for skip in reasons[form])))
        timed = self.verify and _macs(model, feeds) >= _LEAST_MACS
        shares, note = time_shares(model, results, feeds) if timed else ({}, "")
        skipped += [Skip("graph", note)] if note else []
        best = min(results, key=lambda form: (shares.get(form, 1.0), list(_CORES).index(form)))
        if shares.get(best, 1.0) > _SLOWER:
            skipped.append(
                Skip("graph", f"undone: with {_NODES[best]} the model took {shares[best]:.2f} times the time")
            )
            return Applied(model, (), tuple(skipped))
        done = edits[best]
        if best in shares:
            done.append(Edit("graph", f"measured time {units.share(shares[best])} of the original"))
        return Applied(results[best], tuple(done), (*skipped, *reasons[best]), differences[best])

    def _fused(self, work: ir.Model, form: str) -> tuple[ir.Model, list[Edit], list[Skip]]:
        """Return the model with attentions fused into one form, the edits, and the skips."""
        least = STANDARD_SINCE if form == "portable" else _LEAST_OPSET
        try:
            result = normalized(upgrade_opset(work, least))
        except ModelError as error:
            return work, [], [Skip("graph", f"{form}: {error.what}: {error.why}")]
        found, refused = attentions(result)
        skipped = [Skip(name, reason) for name, reason in refused.items()]
        writer, edits = AttentionWriter(result, "fused"), list[Edit]()
        for each in found:
            reason = self._refusal(each, form)
            if reason:
                skipped.append(Skip(each.name, reason))
                continue
            writer.replace(each, _CORES[form])
            edits.append(Edit(each.name, f"attention of {each.heads} heads fused into {_NODES[form]}"))
        if form == "runtime" and edits:
            result.opset_imports.setdefault(DOMAIN, 1)
        writer.finish()
        left = {node.name for node in result.graph}
        if any(edit.target in left for edit in edits):
            return work, [], [*skipped, Skip("graph", "other nodes read intermediate values of its attention")]
        if edits and opset_of(result) > opset_of(work):
            edits.append(Edit("graph", f"opset raised from {opset_of(work)} to {opset_of(result)}"))
        return result, edits, skipped

    def _refusal(self, found: Attention, form: str) -> str:
        if found.name in self.exclude:
            return "excluded by name"
        if not found.float32:
            return "it is not computed in float32"
        parts = found.parts(apart=False)
        if parts is None:
            return "it changes single heads, as rotary positions do, so one node would bring no speed-up"
        if form == "runtime" and parts.key.reading.own != found.heads:
            return "several heads share keys and values, which MultiHeadAttention does not support"
        return ""


def _macs(model: ir.Model, feeds: Feeds) -> int:
    return anatomy_of(with_input_shapes(model, {name: array.shape for name, array in feeds.items()})).macs or 0


def attends(model: ir.Model) -> bool:
    """Return whether a model has attention to fuse.

    False for one too large for a protobuf, because the proof of the pass runs both graphs at once.
    """
    if not fits_protobuf(model) or not any(node.op_type == "Softmax" for node in model.graph):
        return False
    try:
        return bool(attentions(normalized(model))[0])
    except (ModelError, NativeError):
        return False
