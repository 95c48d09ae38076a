"""Cross-layer equalization of weight ranges, channel by channel."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxopt.graph.edit import editable
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.quantization.equalization.cross_layer import chains, equalize


@dataclass(frozen=True)
class Equalize(Pass):
    """Equalize the ranges of weights across layers before quantization (cross-layer equalization).

    An output channel of a layer is multiplied by a power of two and the weights that read it are divided by it: the
    outputs stay bit-identical, and one scale fits all channels of a tensor better.

        Conv - Relu - Conv, Conv - Relu - depthwise Conv, Gemm - Relu - Gemm

    After Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019. Fold
    batch-norms first, with `simplify`.
    """

    name: ClassVar[str] = "equalize"
    effect: ClassVar[Effect] = Effect.EXACT

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Equalize every chain in `model`; skips name the layers without one, with reasons."""
        current = editable(model)
        found, refused = chains(current)
        follower = {chain.first.name: chain.second.name for chain in found}
        edits = [
            Edit(name, f"channels scaled by 2^{exponents.min()} to 2^{exponents.max()} against {follower[name]}")
            for name, exponents in equalize(found).items()
        ]
        skipped = [Skip(name, reason) for name, reason in refused.items()]
        done = {edit.target for edit in edits}
        skipped += [Skip(name or "", "its channels have equal ranges already") for name in follower if name not in done]
        return Applied(current if edits else model, tuple(edits), tuple(skipped))
