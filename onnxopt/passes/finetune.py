"""Fine-tuning of a model on labels."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from onnxopt.errors import ModelError, UsageError
from onnxopt.options.training import FinetuneOptions
from onnxopt.passes.distill import WHOLE, check_names, schedule_of
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip


@dataclass(frozen=True)
class Finetune(FinetuneOptions, Pass):
    """Train the model on labels; needs the `train` extra. Without labels, use `distill`.

    Trained weights are kept only if they lower the loss on held-out samples. Zero weights stay zero, and nothing but
    weights changes.
    """

    name: ClassVar[str] = "finetune"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    def __post_init__(self) -> None:
        """Check the combination of options.

        Raises:
            UsageError: ONX101 a name is unknown, ONX109 two options exclude each other.
        """
        if "mixup" in self.augment:
            raise UsageError("ONX109", "mixup does not keep labels", where="augment", hint="Leave it out, or distill.")
        check_names("augment", self.augment, ("flip", "crop", "cutout"))
        if ".py:" not in self.loss:
            check_names("loss", (self.loss,), ("auto", "cross-entropy", "mse", "bce"))

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Train, and keep the weights if they are better on the held-out samples.

        Raises:
            UsageError: ONX101 no such output, ONX107 the loss function cannot be used, ONX108 torch is not installed.
            DataError: ONX206 the labels do not fit.
        """
        from onnxopt.training.finetune import FineTuning, finetune

        assert context.calibration is not None
        if context.calibration.labels is None:
            return Applied(model, skipped=(Skip(WHOLE, "the samples have no labels: give some, or use distill"),))
        options = FineTuning(
            epochs=self.epochs,
            steps=self.steps,
            schedule=schedule_of(self),
            loss=self.loss,
            output=self.output,
            augmentations=self.augment,
            held_out=self.held_out,
            batch_norm=self.batch_norm,
            device=self.device,
            checkpoint=Path(self.checkpoint) if self.checkpoint else None,
        )
        shown = partial(context.progress, self.name)
        try:
            done = finetune(model, context.calibration, options, seed=context.seed, progress=shown)
        except ModelError as error:
            return Applied(model, skipped=(Skip(WHOLE, f"{error.what}{': ' if error.why else ''}{error.why}"),))
        trained = done.trained
        if trained is None:
            return Applied(model, skipped=(Skip(WHOLE, "too few samples for training and held-out evaluation"),))
        change = f"{trained.before:.3g} to {trained.after:.3g} on held-out samples"
        if not trained.improved:
            return Applied(model, skipped=(Skip(WHOLE, f"training did not help: loss {change}"),))
        curve = tuple((point.step, point.loss, point.score) for point in trained.history)
        edit = Edit(WHOLE, f"learned from labels in {curve[-1][0]} steps: loss {change}")
        return Applied(done.model, edits=(edit,), curve=((0, float("nan"), trained.before), *curve))
