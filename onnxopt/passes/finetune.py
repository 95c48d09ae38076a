"""Recover accuracy: the model learns from labels."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import ModelError, UsageError
from onnxopt.passes.distill import WHOLE, check_names
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip


@dataclass(frozen=True)
class Finetune(Pass):
    """Weights learn from labels; needs the `train` extra. Without labels there is `distill`.

    Some samples are held out: weights that do not lower the loss there are not kept. Weights that are zero stay zero,
    and nothing but weights changes.

    Attributes:
        epochs: times the samples are seen.
        steps: of the optimizer, in place of `epochs`; 0 for none.
        batch_size: samples per step.
        lr: highest learning rate; it falls to zero by a half cosine.
        optimizer: `adamw` or `sgd`.
        weight_decay: as the optimizer takes it.
        loss: `cross-entropy`, `mse`, `bce` (an output behind Sigmoid, or the number before it), or `file.py:function`
            of the outputs by name and the labels, as tensors; `auto` is `cross-entropy` for class numbers, else `mse`.
        output: the model output that labels are for; the first when empty.
        augment: `flip`, `crop`, `cutout`, for images.
        held_out: share of the samples that judges.
        batch_norm: `frozen` or `trained`.
        device: of torch, such as `cpu` or `cuda`.
        precision: `float32`, or `bfloat16` for the products: about half the time on processors with instructions for it
            (AVX512-BF16, AMX, Arm BF16); `auto` is bfloat16 on a GPU.
        checkpoint: file to resume from after an interruption; none when empty.
    """

    name: ClassVar[str] = "finetune"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    epochs: Annotated[float, Field(gt=0)] = 5.0
    steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    loss: str = "auto"
    output: str = ""
    augment: tuple[str, ...] = ()
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    batch_norm: Literal["frozen", "trained"] = "frozen"
    device: str = "cpu"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint: str = ""

    def __post_init__(self) -> None:
        """Check what the options mean together.

        Raises:
            UsageError: ONX101 a name is unknown, ONX109 two options contradict each other.
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
        from onnxopt.training.schedule import Schedule

        assert context.calibration is not None
        if context.calibration.labels is None:
            return Applied(model, skipped=(Skip(WHOLE, "the samples have no labels: give some, or use distill"),))
        options = FineTuning(
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
            loss=self.loss,
            output=self.output,
            augmentations=self.augment,
            held_out=self.held_out,
            batch_norm=self.batch_norm,
            device=self.device,
            checkpoint=Path(self.checkpoint) if self.checkpoint else None,
        )
        told = partial(context.progress, self.name)
        try:
            done = finetune(model, context.calibration, options, seed=context.seed, progress=told)
        except ModelError as error:
            return Applied(model, skipped=(Skip(WHOLE, f"{error.what}{': ' if error.why else ''}{error.why}"),))
        trained = done.trained
        if trained is None:
            return Applied(model, skipped=(Skip(WHOLE, "there are too few samples to learn from and to judge by"),))
        change = f"{trained.before:.3g} to {trained.after:.3g} on held-out samples"
        if not trained.improved:
            return Applied(model, skipped=(Skip(WHOLE, f"training did not help: loss {change}"),))
        curve = tuple((point.step, point.loss, point.score) for point in trained.history)
        edit = Edit(WHOLE, f"learned from labels in {curve[-1][0]} steps: loss {change}")
        return Applied(done.model, edits=(edit,), curve=((0, float("nan"), trained.before), *curve))
