"""Distillation: training of the optimized model to match the original model."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

from onnxopt.errors import ModelError, UsageError, nearest
from onnxopt.options.training import DistillOptions, ModelTrainingOptions
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip

if TYPE_CHECKING:
    from onnxopt.training.distill import Distillation
    from onnxopt.training.schedule import Schedule
    from onnxopt.training.trainer import Trained

WHOLE = "model"
"""Target of edits and skips of a training."""


@dataclass(frozen=True)
class Distill(DistillOptions, Pass):
    """Train the model to match the original model's outputs, without labels; needs the `train` extra.

    The teacher is the input model of the pipeline. Trained weights are kept only if they bring the outputs closer to
    the teacher's on held-out samples. Zero weights stay zero, and nothing but weights changes.
    """

    name: ClassVar[str] = "distill"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    def __post_init__(self) -> None:
        """Check the combination of options.

        Raises:
            UsageError: ONX101 a name is unknown or a value is invalid, ONX109 two options exclude each other.
        """
        check_names("losses", self.losses, ("response", "feature", "attention", "relation", "flow"))
        check_names("augment", self.augment, ("flip", "crop", "cutout", "mixup"))
        if not self.losses:
            raise UsageError("ONX101", "there is no loss", where="losses", hint="Name at least one, such as response.")
        if self.weights and len(self.weights) != len(self.losses):
            raise UsageError("ONX101", "losses and weights differ in number", where="weights", hint="Give one each.")
        if self.alpha < 1 and "mixup" in self.augment:
            raise UsageError("ONX109", "mixup does not keep labels", where="augment", hint="Leave it out, or alpha=1.")

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Train, and keep the weights if they are better on the held-out samples.

        Raises:
            UsageError: ONX108 torch is not installed.
        """
        from onnxopt.training.distill import distill

        assert context.calibration is not None
        assert context.teacher is not None
        shown = partial(context.progress, self.name)
        try:
            done = distill(
                model, context.teacher, context.calibration, self._options(), seed=context.seed, progress=shown
            )
        except ModelError as error:
            return Applied(model, skipped=(Skip(WHOLE, f"{error.what}{': ' if error.why else ''}{error.why}"),))
        trained = done.trained
        if trained is None:
            return Applied(model, skipped=(Skip(WHOLE, "too few samples for training and held-out evaluation"),))
        if not trained.improved:
            return Applied(model, skipped=(Skip(WHOLE, _no_gain(trained)),))
        change = f"divergence from the teacher {trained.before:.3g} to {trained.after:.3g} on held-out samples"
        curve = tuple((point.step, point.loss, point.score) for point in trained.history)
        edit = Edit(WHOLE, f"learned from the teacher in {curve[-1][0]} steps: {change}")
        why = "student and teacher have no intermediate values in common"
        skipped = tuple(Skip(f"{name} loss", why) for name in done.left_out)
        return Applied(done.model, (edit,), skipped, curve=((0, float("nan"), trained.before), *curve))

    def _options(self) -> "Distillation":
        from onnxopt.training.distill import Distillation

        return Distillation(
            epochs=self.epochs,
            steps=self.steps,
            schedule=schedule_of(self),
            losses=dict(zip(self.losses, self.weights or (1.0,) * len(self.losses), strict=True)),
            temperature=self.temperature,
            alpha=self.alpha,
            features=self.features,
            augmentations=self.augment,
            held_out=self.held_out,
            batch_norm=self.batch_norm,
            device=self.device,
            checkpoint=Path(self.checkpoint) if self.checkpoint else None,
        )


def schedule_of(options: ModelTrainingOptions) -> "Schedule":
    """Return the schedule of the optimizer's steps."""
    from onnxopt.training.schedule import Schedule

    return Schedule(
        1,
        options.batch_size,
        options.lr,
        optimizer=options.optimizer,
        weight_decay=options.weight_decay,
        precision=options.precision,
    )


def check_names(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Refuse names that are unknown or given twice.

    Raises:
        UsageError: ONX101.
    """
    for name in given:
        if name not in known:
            raise UsageError("ONX101", f"{option} has no such value", where=name, hint=nearest(name, known))
    if len(set(given)) < len(given):
        raise UsageError("ONX101", "a value is given twice", where=option, hint="Give each once.")


def _no_gain(trained: "Trained") -> str:
    if trained.alike:
        return "its outputs equal the teacher's already"
    return f"training did not help on held-out samples: {trained.before:.3g} before, {trained.after:.3g} at best"
