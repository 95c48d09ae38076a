"""Commands that recover accuracy by training: distill, finetune."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.make import emit_made
from onnxopt.cli.options import DATA, LABELS, LIMIT, MODEL, OUT_MODEL, OVERWRITE, SEED, Reading, Shown
from onnxopt.cli.output import quieten
from onnxopt.errors import ExitCode


class Precision(Enum):
    """Of the products of a training."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


PRECISION = Annotated[
    Precision,
    typer.Option("--precision", help="Of products; bfloat16 takes about half the time where the processor has it."),
]


def distill(
    teacher: Annotated[Path, typer.Argument(help="ONNX file that knows.", show_default=False)],
    student: Annotated[
        Path, typer.Argument(help="ONNX file that learns, with the same inputs and outputs.", show_default=False)
    ],
    *,
    data: DATA,
    out: OUT_MODEL,
    labels: LABELS = None,
    epochs: Annotated[float, typer.Option("--epochs", help="Times the samples are seen.")] = 10.0,
    steps: Annotated[int, typer.Option("--steps", help="Of the optimizer, in place of --epochs.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per step.")] = 64,
    lr: Annotated[float, typer.Option("--lr", help="Highest learning rate.")] = 1e-3,
    losses: Annotated[
        str, typer.Option("--losses", help="response, feature, attention, relation, flow; comma-separated.")
    ] = "response",
    temperature: Annotated[float, typer.Option("--temperature", help="Class scores are divided by it.")] = 4.0,
    alpha: Annotated[float, typer.Option("--alpha", help="Share of the teacher where there are labels.")] = 1.0,
    augment: Annotated[
        str | None, typer.Option("--augment", help="Images: flip, crop, cutout, mixup; comma-separated.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Of torch: cpu, cuda, ...")] = "cpu",
    precision: PRECISION = Precision.AUTO,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="File to resume from after an interruption.")
    ] = None,
    limit: LIMIT = None,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    reading: Reading,
    shown: Shown,
) -> int:
    """Let one model learn from another, without labels or training code. Needs torch."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.passes.distill import Distill
    from onnxopt.tasks.apply import apply_passes

    spec = Distill(
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        losses=tuple(losses.split(",")),
        temperature=temperature,
        alpha=alpha,
        augment=tuple(augment.split(",")) if augment else (),
        device=device,
        precision=precision.value,
        checkpoint=checkpoint or "",
    )
    with ProgressBar(shown) as bar:
        made = apply_passes(
            student,
            (spec,),
            data=data,
            labels=labels,
            limit=limit,
            seed=seed,
            read=reading.options(),
            out=out,
            overwrite=overwrite,
            teacher=teacher,
            progress=bar.show,
        )
    emit_made(student, made, shown)
    return ExitCode.OK if made.optimized.steps[-1].edits else ExitCode.LIMIT_NOT_MET


def finetune(
    model: MODEL,
    *,
    data: DATA,
    out: OUT_MODEL,
    labels: LABELS = None,
    loss: Annotated[
        str, typer.Option("--loss", help="auto, cross-entropy, mse, bce or file.py:function of outputs and labels.")
    ] = "auto",
    output_name: Annotated[
        str | None, typer.Option("--output-name", help="Model output that labels are for; else the first.")
    ] = None,
    epochs: Annotated[float, typer.Option("--epochs", help="Times the samples are seen.")] = 5.0,
    steps: Annotated[int, typer.Option("--steps", help="Of the optimizer, in place of --epochs.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per step.")] = 64,
    lr: Annotated[float, typer.Option("--lr", help="Highest learning rate.")] = 1e-3,
    augment: Annotated[
        str | None, typer.Option("--augment", help="Images: flip, crop, cutout; comma-separated.")
    ] = None,
    batch_norm: Annotated[str, typer.Option("--batch-norm", help="frozen or trained.")] = "frozen",
    device: Annotated[str, typer.Option("--device", help="Of torch: cpu, cuda, ...")] = "cpu",
    precision: PRECISION = Precision.AUTO,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="File to resume from after an interruption.")
    ] = None,
    limit: LIMIT = None,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    reading: Reading,
    shown: Shown,
) -> int:
    """Train a model on labels, without its training code. Needs torch."""
    quieten(shown)
    from onnxopt.catalog import make_pass
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.apply import apply_passes

    options = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "loss": loss,
        "output": output_name or "",
        "augment": tuple(augment.split(",")) if augment else (),
        "batch_norm": batch_norm,
        "device": device,
        "precision": precision.value,
        "checkpoint": checkpoint or "",
    }
    with ProgressBar(shown) as bar:
        made = apply_passes(
            model,
            (make_pass("finetune", options),),
            data=data,
            labels=labels,
            limit=limit,
            seed=seed,
            read=reading.options(),
            out=out,
            overwrite=overwrite,
            progress=bar.show,
        )
    emit_made(model, made, shown)
    return ExitCode.OK if made.optimized.steps[-1].edits else ExitCode.LIMIT_NOT_MET
