"""Options of everything that trains."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from onnxopt.options.declared import Word

Above0 = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(0)]
AtLeast1 = Annotated[int, Ge(1)]
Names = Annotated[tuple[str, ...], Word(metavar="NAME,...")]
Share = Annotated[float, Gt(0), Lt(1)]
Precision = Literal["auto", "float32", "bfloat16"]
"""Number format of the products of a training."""


@dataclass(frozen=True)
class TrainingOptions:
    """Options that every training has.

    Attributes:
        epochs: number of passes over the samples.
        steps: number of optimizer steps, instead of `epochs`; 0 uses `epochs`.
        batch_size: samples per step.
        lr: peak learning rate; it falls to zero along a half cosine, and is lowered where it leads away from a good
            start.
        held_out: share of the samples held out to judge the result.
        device: torch device, such as `cpu` or `cuda`.
    """

    epochs: Above0 = 10.0
    steps: Count = 0
    batch_size: AtLeast1 = 64
    lr: Above0 = 1e-3
    held_out: Share = 0.1
    device: str = "cpu"


@dataclass(frozen=True)
class WeightTrainingOptions(TrainingOptions):
    """Options of a training of all weights.

    Attributes:
        optimizer: `adamw` or `sgd`.
        weight_decay: weight decay of the optimizer.
        augment: augmentations of images: `flip`, `crop`, `cutout`, `mixup`.
        batch_norm: statistics of batch norms: `frozen` or `trained`.
        precision: number format of matrix products: `float32`, or `bfloat16`, which takes about half the time on
            processors with instructions for it (AVX512-BF16, AMX, Arm BF16); `auto` is bfloat16 on a GPU.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, Ge(0)] = 0.0
    augment: Names = ()
    batch_norm: Literal["frozen", "trained"] = "frozen"
    precision: Precision = "auto"


@dataclass(frozen=True)
class ModelTrainingOptions(WeightTrainingOptions):
    """Options of a training of the whole model.

    Attributes:
        checkpoint: file to resume from after an interruption; no file when empty.
    """

    checkpoint: str = ""


@dataclass(frozen=True)
class DistillOptions(ModelTrainingOptions):
    """Options of learning from another model.

    Attributes:
        losses: losses to minimize: `response` (outputs), `feature` (intermediate values, and outputs where `response`
            is left out), `attention` (positions of large intermediate values), `relation` (distances and angles
            between samples), `flow` (products of successive layers).
        weights: weights of the losses, in their order; 1 each when empty.
        temperature: softmax temperature of the distillation loss.
        alpha: weight of the distillation loss; 1 - alpha is the weight of the label loss.
        features: names of intermediate values to compare; the ends of blocks when empty.
    """

    losses: Names = ("response",)
    weights: Annotated[tuple[float, ...], Word(metavar="NUMBER,...")] = ()
    temperature: Above0 = 4.0
    alpha: Annotated[float, Ge(0), Le(1)] = 1.0
    features: Names = ()


@dataclass(frozen=True)
class FinetuneOptions(ModelTrainingOptions):
    """Options of learning from labels.

    Attributes:
        augment: augmentations of images: `flip`, `crop`, `cutout`.
        loss: `cross-entropy`, `mse`, `bce` (for an output of Sigmoid, or its input), or `file.py:function` of the
            outputs by name and the labels, as tensors; `auto` is `cross-entropy` for class numbers, else `mse`.
        output: model output that the labels belong to; the first when empty.
    """

    epochs: Above0 = 5.0
    loss: str = "auto"
    output: str = ""
