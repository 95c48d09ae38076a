"""Block reconstruction: training of one block at a time to match the original."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import onnx_ir as ir
from annotated_types import Ge

from onnxopt.document import units
from onnxopt.graph.weights.quantized import masters_of, quantized_weights
from onnxopt.options.training import Above0, AtLeast1, Share, TrainingOptions
from onnxopt.passes.qat import float_originals
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip


@dataclass(frozen=True)
class ReconstructBlocks(TrainingOptions, Pass):
    """Train each block to match the original block's outputs, from few samples without labels; needs `train`.

    A block lies between two values that all paths pass through, such as a residual block or a layer of a chain. Its
    input comes from the optimized model, so it corrects the errors of the blocks before it. A block is kept only if it
    comes closer to the original on held-out samples. Zero weights stay zero.

    Attributes:
        epochs: number of passes over the samples, for each block.
        steps: number of optimizer steps for each block, instead of `epochs`; 0 uses `epochs`.
        samples: largest number of samples.
        rounding: whether to train only the rounding direction of the weights of a quantized model.
    """

    name: ClassVar[str] = "reconstruct-blocks"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    epochs: Above0 = 20.0
    batch_size: AtLeast1 = 32
    held_out: Share = 0.2
    samples: Annotated[int, Ge(2)] = 1024
    rounding: bool = False

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Train the blocks in graph order; skips name the unchanged blocks with reasons.

        Raises:
            UsageError: ONX108 torch is not installed.
        """
        from onnxopt.training.reconstruct import Reconstruction, reconstruct
        from onnxopt.training.schedule import Schedule
        from onnxopt.training.soft_rounding import soft_rounding

        assert context.calibration is not None
        assert context.teacher is not None
        method = None
        if self.rounding:
            weights = quantized_weights(model)
            masters = masters_of(model, weights, float_originals(context))
            if not masters:
                reason = "it has no quantized weights with float originals: run quantize-static first"
                return Applied(model, (), (Skip("model", reason),))
            method = soft_rounding(masters)
        # How a weight is rounded goes from 0 to 1, many times the size of a weight.
        schedule = Schedule(1, self.batch_size, 30 * self.lr if self.rounding else self.lr)
        options = Reconstruction(self.epochs, self.steps, schedule, self.held_out, self.device)
        samples = context.calibration.take(self.samples)
        result, blocks = reconstruct(model, context.teacher, samples, options, seed=context.seed, method=method)
        edits = tuple(Edit(b.end, _gain(b.before, b.after)) for b in blocks if not b.reason)
        return Applied(result, edits, tuple(Skip(b.end, b.reason) for b in blocks if b.reason))


def _gain(before: float, after: float) -> str:
    return (
        f"its error falls from {units.share(before, 2)} to {units.share(after, 2)} of the variance on held-out samples"
    )
