"""Quantization-aware training of a quantized model, with the float model as the teacher."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.graph.weights.quantized import float_weights, masters_of, quantized_weights, with_fewer_bits
from onnxopt.options.training import Above0, AtLeast1, TrainingOptions
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip

_WHOLE = "model"


@dataclass(frozen=True)
class Qat(TrainingOptions, Pass):
    """Train a QDQ model with simulated rounding to match its float teacher, without labels; needs `train`.

    The pass keeps the graph of quantize-static and changes integers and scales. Zero weights stay zero. The result is
    kept only if it comes closer to the teacher on held-out samples.

        simplify,quantize-static,qat

    Attributes:
        learn_scales: whether to train the scales of weights and activations too.
        weight_bits: 8 = weights as quantized; 4 = weights requantized to integers in [-7, 7] before training, stored as
            int8; this step is kept even if training does not help.
        temperature: softmax temperature.
        augment: augmentations of images: `flip`, `crop`, `cutout`, `mixup`.
    """

    name: ClassVar[str] = "qat"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    batch_size: AtLeast1 = 32
    lr: Above0 = 1e-4
    learn_scales: bool = True
    weight_bits: Literal[4, 8] = 8
    temperature: Above0 = 4.0
    augment: tuple[Literal["flip", "crop", "cutout", "mixup"], ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Train, and keep the result if it is better on the held-out samples.

        Raises:
            UsageError: ONX108 torch is not installed.
        """
        from onnxopt.training import qat
        from onnxopt.training.schedule import Schedule

        assert context.calibration is not None
        assert context.teacher is not None
        weights = quantized_weights(model)
        if not weights:
            return Applied(model, (), (Skip(_WHOLE, "it has no quantized weights: run quantize-static first"),))
        masters = masters_of(model, weights, float_originals(context))
        edits: list[Edit] = []
        start = model
        if self.weight_bits < 8:
            floats = {w.name: masters[w.name] for w in weights if w.name in masters}
            start = with_fewer_bits(model, weights, floats, self.weight_bits)
            edits = [Edit(w.value, f"weights in {self.weight_bits} bits") for w in weights if w.largest.ndim]
        options = qat.QatTraining(
            self.epochs,
            self.steps,
            Schedule(1, self.batch_size, self.lr),
            self.learn_scales,
            self.temperature,
            self.augment,
            self.held_out,
            self.device,
        )
        try:
            shown = partial(context.progress, self.name)
            result, trained = qat.train_quantized(
                start,
                context.teacher,
                context.calibration,
                options,
                masters=masters,
                seed=context.seed,
                progress=shown,
            )
        except ModelError as error:
            reason = f"not trained: {error.what}{': ' if error.why else ''}{error.why}"
            return Applied(start, tuple(edits), (Skip(_WHOLE, reason),))
        if trained is None:
            return Applied(start, tuple(edits), (Skip(_WHOLE, "too few samples for training and held-out evaluation"),))
        scores = f"divergence {trained.before:.3g} before, {trained.after:.3g} at best"
        if not trained.improved:
            return Applied(start, tuple(edits), (Skip(_WHOLE, f"training did not help on held-out samples: {scores}"),))
        edits.append(Edit(_WHOLE, f"integers learned from the teacher, on held-out samples: {scores}"))
        curve = tuple((point.step, point.loss, point.score) for point in trained.history)
        return Applied(result, tuple(edits), curve=((0, float("nan"), trained.before), *curve))


def float_originals(context: Context) -> dict[str, np.ndarray]:
    """Return float weights that a quantized model may have been made from: the teacher's, fused or not."""
    assert context.teacher is not None
    fused = Simplify().apply(context.teacher.clone(), context).model
    return float_weights(fused) | float_weights(context.teacher)
