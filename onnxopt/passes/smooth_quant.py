"""SmoothQuant: activation outliers moved into weights before quantization."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.graph.edit import editable
from onnxopt.measure.runtime.activations import Activations
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip
from onnxopt.quantization.equalization.smoothing import largest_by_channel, smooth, smoothables


@dataclass(frozen=True)
class SmoothQuant(Pass):
    """Scale down outlier channels of activations, and scale up the weights that read them (SmoothQuant).

        LayerNormalization - MatMul, Mul - Add - MatMul, Gemm - Relu - Gemm

    The scale is folded into the constants of the node that writes the activation, so the graph gets no new node. Scales
    are powers of two: the outputs stay bit-identical. After Xiao et al., "SmoothQuant: accurate and efficient
    post-training quantization for large language models", ICML 2023.

    Attributes:
        alpha: migration strength: 0 = no scaling, 1 = activation ranges fully equalized.
        samples: largest number of calibration samples.
    """

    name: ClassVar[str] = "smooth-quant"
    effect: ClassVar[Effect] = Effect.EXACT
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    samples: Annotated[int, Field(ge=1)] = 64

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Smooth activations; skips name the other products with reasons."""
        current = editable(model)
        found, refused = smoothables(current)
        skipped = [Skip(name, reason) for name, reason in refused.items()]
        if not found:
            return Applied(model, (), tuple(skipped))
        assert context.calibration is not None
        samples = context.calibration.take(min(self.samples, len(context.calibration))).with_batch_size(1)
        largest = dict[str, np.ndarray]()
        for arrays in Activations(current, [one.value.name or "" for one in found]).of(samples):
            largest_by_channel(arrays, largest)
        edits = []
        for one in found:
            exponents = smooth(one, largest[one.value.name or ""], self.alpha)
            names = [operand.node.name or "" for operand in one.readers]
            if exponents.any():
                what = f"channels of its input divided by 2^{exponents.min()} to 2^{exponents.max()}"
                edits += [Edit(name, what) for name in names]
            else:
                skipped += [Skip(name, "its input channels have equal ranges already") for name in names]
        return Applied(current if edits else model, tuple(edits), tuple(skipped))
