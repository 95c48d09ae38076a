"""Public calls that apply one pass to a path, an `onnx.ModelProto` or an `onnx_ir.Model`.

None of them changes the model it is given; a file is written only where `out` names one.
"""

from pathlib import Path
from typing import Literal

from onnxopt.catalog import make_pass
from onnxopt.model_file import Given
from onnxopt.options.keywords import with_options
from onnxopt.options.training import DistillOptions, FinetuneOptions
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import StageProgress
from onnxopt.samples import ReadOptions
from onnxopt.tasks.apply import Made, apply

Structure = Literal["channels", "heads", "groups", "blocks", "weights"]


def prune(
    model: Given,
    data: object = None,
    *,
    out: str | Path | None = None,
    what: Structure = "channels",
    limit: int | None = None,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: StageProgress | None = None,
    **options: object,
) -> Made:
    """Remove channels, attention heads, groups of convolutions, residual blocks, or single weights.

    The graph is simplified first, so that batch norms are part of the layers whose channels are removed.

    Args:
        model: the input model (not modified).
        data: samples, without labels; they rank the units, and the layers that remain are fitted to them.
        out: file to write; None for none.
        what: the pass is `prune-` and this.
        limit: largest number of samples of `data`.
        target: processor the result is for, which decides on the width of blocks.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        progress: called with the step, the finished and the total amount.
        options: options of the pass, such as `ratio=0.5` or `macs=0.5`; see docs/pruning.md.

    Raises:
        UsageError: ONX101 to ONX103 an option is unknown or has an invalid value; further codes as in docs/errors.md.
    """
    passes = (Simplify(fuse=False), make_pass(f"prune-{what}", options))
    return apply(
        model,
        passes,
        data,
        out=out,
        limit=limit,
        target=target,
        seed=seed,
        read=read,
        overwrite=overwrite,
        progress=progress,
    )


def factorize(
    model: Given,
    data: object = None,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: StageProgress | None = None,
    **options: object,
) -> Made:
    """Replace layers by products of smaller ones.

    Args:
        model: the input model (not modified).
        data: samples, without labels; with them fewer ranks keep the same outputs.
        out: file to write; None for none.
        limit: largest number of samples of `data`.
        target: target processor.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        progress: called with the step, the finished and the total amount.
        options: options of the pass `factorize`, such as `rank_ratio=0.5`; see docs/low-rank.md.

    Raises:
        UsageError: ONX101 an option has an invalid value, ONX102 it is unknown; further codes as in docs/errors.md.
    """
    passes = (Simplify(fuse=False), make_pass("factorize", options))
    return apply(
        model,
        passes,
        data,
        out=out,
        limit=limit,
        target=target,
        seed=seed,
        read=read,
        overwrite=overwrite,
        progress=progress,
    )


@with_options(DistillOptions)
def distill(
    teacher: Given,
    student: Given,
    data: object,
    *,
    options: DistillOptions | None = None,
    out: str | Path | None = None,
    labels: object = None,
    limit: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: StageProgress | None = None,
    **named: object,
) -> Made:
    """Train `student` to give the outputs of `teacher`, which has the same inputs and outputs; needs torch.

    Args:
        teacher: the model to imitate.
        student: the model to train (not modified; the trained copy is returned).
        data: samples; labels are used only where `alpha` is below 1.
        out: file to write; None for none.
        labels: one per sample, if `data` has none.
        limit: largest number of samples of `data`.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        progress: called with the step, the finished and the total amount.
        options: options of the training.
        named: fields of `options` that replace its own, such as `epochs=5` or `losses=("response", "feature")`; see
            docs/recovery.md.

    Raises:
        UsageError: ONX101 an option has an invalid value, ONX102 it is unknown, ONX108 torch is not installed;
            further codes as in docs/errors.md.
    """
    return apply(
        student,
        (make_pass("distill", {**vars(options or DistillOptions()), **named}),),
        data,
        out=out,
        labels=labels,
        limit=limit,
        teacher=teacher,
        seed=seed,
        read=read,
        overwrite=overwrite,
        progress=progress,
    )


@with_options(FinetuneOptions)
def finetune(
    model: Given,
    data: object,
    *,
    options: FinetuneOptions | None = None,
    out: str | Path | None = None,
    labels: object = None,
    limit: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: StageProgress | None = None,
    **named: object,
) -> Made:
    """Train a model on labels; needs torch.

    Args:
        model: the model to train (not modified; the trained copy is returned).
        data: labelled samples.
        out: file to write; None for none.
        labels: one per sample, if `data` has none.
        limit: largest number of samples of `data`.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        progress: called with the step, the finished and the total amount.
        options: options of the training.
        named: fields of `options` that replace its own, such as `epochs=5` or `loss="cross-entropy"`; see
            docs/recovery.md.

    Raises:
        UsageError: ONX101 an option has an invalid value, ONX102 it is unknown, ONX108 torch is not installed;
            further codes as in docs/errors.md.
    """
    return apply(
        model,
        (make_pass("finetune", {**vars(options or FinetuneOptions()), **named}),),
        data,
        out=out,
        labels=labels,
        limit=limit,
        seed=seed,
        read=read,
        overwrite=overwrite,
        progress=progress,
    )
