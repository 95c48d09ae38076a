"""Replacement of softmax attention by linear attention."""

from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from onnxopt.document import units
from onnxopt.errors import ModelError
from onnxopt.graph.attention.edit import AttentionWriter
from onnxopt.graph.attention.find import Attention, attentions
from onnxopt.graph.attention.forms import linear
from onnxopt.graph.channels.find import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.verdict import one_sample, time_share
from onnxopt.model_file import upgrade_opset
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip

_LEAST_OPSET = 13
_LEAST_MACS = 1_000_000


@dataclass(frozen=True)
class LinearizeAttention(Pass):
    """Replace softmax attention by linear attention, whose cost is linear in the sequence length.

    The outputs change a lot: run `distill` afterwards. Short sequences become slower, so the model is measured at the
    length of the samples (or of fixed inputs) and left unchanged without a speed-up.

        softmax(Q K^T) V   ->   phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)), phi(x) = elu(x) + 1

    After Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
    ICML 2020.

    Attributes:
        layers: names of Softmax nodes whose attention to replace; empty = all.
        verify: measure the model, and undo the replacement without a speed-up.
    """

    name: ClassVar[str] = "linearize-attention"
    effect: ClassVar[Effect] = Effect.LOSSY

    layers: tuple[str, ...] = ()
    verify: bool = True

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Linearize attentions of `model`; skips name the others with reasons.

        Raises:
            UsageError: ONX102 `layers` has an unknown name.
        """
        work = normalized(model)
        require_nodes(work, self.layers)
        if not any(node.op_type == "Softmax" for node in work.graph):
            return Applied(model, (), (Skip("graph", "it has no attention"),))
        try:
            result = normalized(upgrade_opset(work, _LEAST_OPSET))
        except ModelError as error:
            return Applied(model, (), (Skip("graph", f"{error.what}: {error.why}"),))
        found, refused = attentions(result)
        skipped = [Skip(name, reason) for name, reason in refused.items() if not self.layers or name in self.layers]
        writer, edits = AttentionWriter(result, "linear"), list[Edit]()
        for each in found:
            if self.layers and each.name not in self.layers:
                continue
            reason = _refusal(each)
            if reason:
                skipped.append(Skip(each.name, reason))
            else:
                writer.replace(each, linear)
                edits.append(Edit(each.name, f"its attention of {each.heads} heads is linear"))
        writer.finish()
        made = Applied(result, tuple(edits), tuple(skipped))
        if not edits:
            return replace(made, model=model)
        return _if_faster(model, made, context) if self.verify else made


def _if_faster(model: ir.Model, made: Applied, context: Context) -> Applied:
    """Return the result where it takes less time than `model`, else `model` with the reasons."""
    feeds = one_sample(model, context.calibration)
    macs = anatomy_of(with_input_shapes(model, {name: array.shape for name, array in feeds.items()})).macs or 0
    share, note = time_share(model, made.model, feeds) if macs >= _LEAST_MACS else (None, "")
    if share is None and note:
        return replace(made, skipped=(*made.skipped, Skip("graph", note)))
    if share is not None and share < 1.0:
        return replace(made, edits=(*made.edits, Edit("graph", f"measured time {units.share(share)} of the original")))
    reason = "so few MACs that the overhead of more nodes exceeds the saving"
    if share is not None:
        reason = f"undone: at this sequence length the model took {share:.2f} times the time"
    return Applied(model, (), (*made.skipped, *(Skip(edit.target, reason) for edit in made.edits)))


def _refusal(found: Attention) -> str:
    if not found.float32:
        return "it is not computed in float32"
    parts = found.parts(apart=False)
    if parts is None:
        return "it changes single heads, as rotary positions do"
    if parts.key.reading.own != found.heads:
        return "several heads share keys and values"
    if not all(mask.by_key for mask in found.masks):
        return "its mask differs between queries (such as a causal mask), so they cannot share one sum over the keys"
    return ""
