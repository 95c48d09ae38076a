"""Softmax attention becomes linear attention."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

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
    """Replace softmax attention by one whose work grows with the length of the sequence, not with its square.

    The outputs change a lot: let the model learn from the original with `distill` afterwards. Short sequences get
    slower by it, so the model is measured at the length of the samples (or of fixed inputs), and stays if it does.

        softmax(Q K^T) V   ->   phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)), phi(x) = elu(x) + 1

    After Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
    ICML 2020.

    Attributes:
        layers: names of the Softmax nodes whose attention to replace; all when empty.
        verify: measure the model, and undo what does not make it faster.
    """

    name: ClassVar[str] = "linearize-attention"
    effect: ClassVar[Effect] = Effect.LOSSY

    layers: tuple[str, ...] = ()
    verify: bool = True

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Linearize attentions of `model`; says which stay and why.

        Raises:
            UsageError: ONX102 `layers` names something that is not there.
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
        if not edits:
            return Applied(model, (), tuple(skipped))
        if not self.verify:
            return Applied(result, tuple(edits), tuple(skipped))
        feeds = one_sample(model, context.calibration)
        macs = anatomy_of(with_input_shapes(model, {name: array.shape for name, array in feeds.items()})).macs or 0
        share, note = time_share(model, result, feeds) if macs >= _LEAST_MACS else (None, "")
        if share is None and not note:
            reason = "so little work that more nodes take the time that is saved"
            return Applied(model, (), (*skipped, *(Skip(edit.target, reason) for edit in edits)))
        if share is None:
            return Applied(result, tuple(edits), (*skipped, Skip("graph", note)))
        if share >= 1.0:
            reason = f"undone: the sequence is so short that the model took {share:.2f} of the time"
            return Applied(model, (), (*skipped, *(Skip(edit.target, reason) for edit in edits)))
        edits.append(Edit("graph", f"measured to take {share:.0%} of the time"))
        return Applied(result, tuple(edits), tuple(skipped))


def _refusal(found: Attention) -> str:
    if not found.float32:
        return "it is not computed in float32"
    parts = found.parts(apart=False)
    if parts is None:
        return "its heads are changed one by one, as by rotary positions"
    if parts.key.reading.own != found.heads:
        return "several heads share keys and values"
    if not all(mask.by_key for mask in found.masks):
        return "its mask differs between queries, as a causal one does, so one sum over the keys does not serve all"
    return ""
