"""Recover accuracy: the optimized model learns from the original one."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import ModelError, UsageError, nearest
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip

if TYPE_CHECKING:
    from onnxopt.training.distill import Distillation
    from onnxopt.training.trainer import Trained

WHOLE = "model"
"""What edits and skips of a training are about."""


@dataclass(frozen=True)
class Distill(Pass):
    """Weights learn from the original model's answers, without labels or training code; needs the `train` extra.

    The teacher is the model the pipeline starts with. Some samples are held out: weights that do not bring the outputs
    closer to the teacher's there are not kept. Weights that are zero stay zero, and nothing but weights changes.

    Attributes:
        epochs: times the samples are seen.
        steps: of the optimizer, in place of `epochs`; 0 for none.
        batch_size: samples per step.
        lr: highest learning rate; it falls to zero by a half cosine.
        optimizer: `adamw` or `sgd`.
        weight_decay: as the optimizer takes it.
        losses: what is compared: `response` (outputs), `feature` (inner values, and outputs without a response),
            `attention` (where they are large), `relation` (distances and angles between samples), `flow` (how layers
            go together).
        weights: of the losses, in their order; () for 1 each.
        temperature: class scores are divided by it.
        alpha: share of the teacher where there are labels, the rest is theirs; 1 leaves labels alone.
        features: names of inner values to compare; () chooses ends of blocks.
        augment: `flip`, `crop`, `cutout`, `mixup`, for images.
        held_out: share of the samples that judges.
        batch_norm: `frozen` or `trained`.
        device: of torch, such as `cpu` or `cuda`.
        precision: `float32`, or `bfloat16` for the products: about half the time on processors with instructions for it
            (AVX512-BF16, AMX, Arm BF16); `auto` is bfloat16 on a GPU.
        checkpoint: file to resume from after an interruption; none when empty.
    """

    name: ClassVar[str] = "distill"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    epochs: Annotated[float, Field(gt=0)] = 10.0
    steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    losses: tuple[str, ...] = ("response",)
    weights: tuple[float, ...] = ()
    temperature: Annotated[float, Field(gt=0)] = 4.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 1.0
    features: tuple[str, ...] = ()
    augment: tuple[str, ...] = ()
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    batch_norm: Literal["frozen", "trained"] = "frozen"
    device: str = "cpu"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint: str = ""

    def __post_init__(self) -> None:
        """Check what the options mean together.

        Raises:
            UsageError: ONX101 a name is unknown or a value makes no sense, ONX109 two options contradict each other.
        """
        check_names("losses", self.losses, ("response", "feature", "attention", "relation", "flow"))
        check_names("augment", self.augment, ("flip", "crop", "cutout", "mixup"))
        if not self.losses:
            raise UsageError("ONX101", "there is no loss", where="losses", hint="Name at least one, such as response.")
        if self.weights and len(self.weights) != len(self.losses):
            raise UsageError("ONX109", "losses and weights differ in number", where="weights", hint="Give one each.")
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
        told = partial(context.progress, self.name)
        try:
            done = distill(
                model, context.teacher, context.calibration, self._options(), seed=context.seed, progress=told
            )
        except ModelError as error:
            return Applied(model, skipped=(Skip(WHOLE, f"{error.what}{': ' if error.why else ''}{error.why}"),))
        trained = done.trained
        if trained is None:
            return Applied(model, skipped=(Skip(WHOLE, "there are too few samples to learn from and to judge by"),))
        if not trained.improved:
            return Applied(model, skipped=(Skip(WHOLE, _no_gain(trained)),))
        change = f"divergence from the teacher {trained.before:.3g} to {trained.after:.3g} on held-out samples"
        curve = tuple((point.step, point.loss, point.score) for point in trained.history)
        edit = Edit(WHOLE, f"learned from the teacher in {curve[-1][0]} steps: {change}")
        why = "student and teacher have no inner values in common that it could compare"
        skipped = tuple(Skip(f"{name} loss", why) for name in done.left_out)
        return Applied(done.model, (edit,), skipped, curve=((0, float("nan"), trained.before), *curve))

    def _options(self) -> "Distillation":
        from onnxopt.training.distill import Distillation
        from onnxopt.training.schedule import Schedule

        return Distillation(
            epochs=self.epochs,
            steps=self.steps,
            schedule=Schedule(
                1,
                self.batch_size,
                self.lr,
                optimizer=self.optimizer,
                weight_decay=self.weight_decay,
                precision=self.precision,
            ),
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
        return "it gives its teacher's outputs already"
    return f"training did not help on held-out samples: {trained.before:.3g} before, {trained.after:.3g} at best"
