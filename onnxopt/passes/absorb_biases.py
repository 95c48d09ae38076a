"""High-bias absorption: offsets of activations moved into the biases of the next layers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import onnx_ir as ir
from pydantic import Field

from onnxopt.graph.edit import editable
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip
from onnxopt.quantization.equalization.bias_absorption import absorb, floors, refusal
from onnxopt.quantization.equalization.cross_layer import chains
from onnxopt.reconstruction.layers import drop_zero_biases, linear_layers, with_biases


@dataclass(frozen=True)
class AbsorbBiases(Pass):
    """Move activations that stay above zero towards zero, and add the shift to the next bias: narrower INT8 ranges.

        Relu(x) = Relu(x - c) + c  where x is at least c;  c is the mean less three deviations, if above zero

    After Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, with means
    and deviations of the samples. After `equalize`, which can make such channels, and before `quantize-static`.

    Attributes:
        samples: largest number of calibration samples.
    """

    name: ClassVar[str] = "absorb-biases"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    samples: Annotated[int, Field(ge=1)] = 64

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Absorb biases; skips name the other layers with reasons."""
        current = editable(model)
        made = with_biases(current)
        layers = linear_layers(current)
        found, refused = chains(current)
        refused |= {chain.first.name or "": why for chain in found if (why := refusal(chain, layers))}
        chosen = [chain for chain in found if chain.first.name not in refused]
        skipped = [Skip(name, reason) for name, reason in refused.items()]
        if not chosen:
            return Applied(model, (), tuple(skipped))
        assert context.calibration is not None
        samples = context.calibration.take(min(self.samples, len(context.calibration))).with_batch_size(1)
        edits = []
        for name, floor in floors(current, chosen, samples).items():
            chain = next(c for c in chosen if c.first.name == name)
            if floor.any():
                absorb(current, chain, floor, layers)
                count = f"{(floor > 0).sum()} of {len(floor)} channels"
                edits.append(
                    Edit(name, f"{count} shifted by up to {floor.max():.3g}, added to the bias of {chain.second.name}")
                )
            else:
                skipped.append(Skip(name, "its channels come near zero"))
        drop_zero_biases(current, made)
        return Applied(current if edits else model, tuple(edits), tuple(skipped))
