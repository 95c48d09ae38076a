"""Attention of many nodes becomes one node."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.graph.attention.edit import AttentionWriter, Core
from onnxopt.graph.attention.find import Attention, attentions
from onnxopt.graph.attention.forms import DOMAIN, STANDARD_SINCE, runtime, standard
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.verdict import one_sample, prove, time_shares
from onnxopt.model_file import opset_of, upgrade_opset
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.samples import Feeds

_LEAST_OPSET = 13
_CORES: Mapping[str, Core] = MappingProxyType({"portable": standard, "runtime": runtime})
_NODES: Mapping[str, str] = MappingProxyType({"portable": "Attention", "runtime": "MultiHeadAttention"})
_SLOWER = 1.03
"""Times that are nearer to each other are not told apart."""
_LEAST_MACS = 1_000_000
"""Below, fewer nodes are faster, and times are too short to tell by how much."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Put one node in the place of the many that exporters write for attention, and keep it unless it is slower.

    Attention is recognised by what its parts compute: products, scales and masks are followed through any reshaping;
    exports of torch, TensorFlow, Keras, JAX and Paddle are understood alike. `simplify` fuses GELU and LayerNorm.

        MatMul - Mul - Add - Softmax - MatMul   ->   Attention

    Attributes:
        form: `portable` is the standard's Attention, of opset 23; `runtime` the MultiHeadAttention of ONNX Runtime;
            `auto` the faster one, or the portable one where nothing is measured.
        verify: measure models of over a million multiply-accumulates, and undo what makes them slower.
        exclude: names of Softmax nodes whose attention stays.
    """

    name: ClassVar[str] = "fuse-attention"
    effect: ClassVar[Effect] = Effect.EXACT

    form: Literal["auto", "portable", "runtime"] = "auto"
    verify: bool = True
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Fuse the attentions of `model`; says which stay and why.

        Raises:
            UsageError: ONX102 `exclude` names something that is not there.
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
            skipped.append(Skip("graph", f"undone: with {_NODES[best]} the model took {shares[best]:.2f} of the time"))
            return Applied(model, (), tuple(skipped))
        done = edits[best]
        if best in shares:
            done.append(Edit("graph", f"measured to take {shares[best]:.0%} of the time"))
        return Applied(results[best], tuple(done), (*skipped, *reasons[best]), differences[best])

    def _fused(self, work: ir.Model, form: str) -> tuple[ir.Model, list[Edit], list[Skip]]:
        """Return the model with attentions in one form, and why others stay."""
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
            edits.append(Edit(each.name, f"its attention of {each.heads} heads is one {_NODES[form]}"))
        if form == "runtime" and edits:
            result.opset_imports.setdefault(DOMAIN, 1)
        writer.finish()
        left = {node.name for node in result.graph}
        if any(edit.target in left for edit in edits):
            return work, [], [*skipped, Skip("graph", "what its attention computes on the way is read elsewhere too")]
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
            return "its heads are changed one by one, as by rotary positions, and one node would gain nothing"
        if form == "runtime" and parts.key.reading.own != found.heads:
            return "several heads share keys and values, which MultiHeadAttention cannot"
        return ""


def _macs(model: ir.Model, feeds: Feeds) -> int:
    return anatomy_of(with_input_shapes(model, {name: array.shape for name, array in feeds.items()})).macs or 0
