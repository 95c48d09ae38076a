"""Commands that recover accuracy by training: distill, finetune."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxopt.cli.make import emit_made
from onnxopt.cli.options import DATA, LABELS, LIMIT, MODEL, OUT_MODEL, OVERWRITE, SEED, Reading, Shown
from onnxopt.cli.output import quieten
from onnxopt.errors import ExitCode

Precision = Literal["auto", "float32", "bfloat16"]
"""Number format of matrix products in training."""

PRECISION = Annotated[
    Precision,
    typer.Option(
        "--precision", help="Number format of matrix products; bfloat16 halves the time on processors with it."
    ),
]


def distill(
    teacher: Annotated[Path, typer.Argument(help="ONNX file of the reference model.", show_default=False)],
    student: Annotated[
        Path,
        typer.Argument(help="ONNX file of the model to train, with the same inputs and outputs.", show_default=False),
    ],
    *,
    data: DATA,
    out: OUT_MODEL,
    labels: LABELS = None,
    epochs: Annotated[float, typer.Option("--epochs", help="Number of passes over the samples.")] = 10.0,
    steps: Annotated[int, typer.Option("--steps", help="Number of optimizer steps, instead of --epochs.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per step.")] = 64,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 1e-3,
    losses: Annotated[
        str, typer.Option("--losses", help="response, feature, attention, relation, flow; comma-separated.")
    ] = "response",
    temperature: Annotated[
        float, typer.Option("--temperature", help="Softmax temperature of the distillation loss.")
    ] = 4.0,
    alpha: Annotated[
        float,
        typer.Option("--alpha", help="Weight of the distillation loss; 1 - alpha is the weight of the label loss."),
    ] = 1.0,
    augment: Annotated[
        str | None, typer.Option("--augment", help="Images: flip, crop, cutout, mixup; comma-separated.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Torch device: cpu, cuda, ...")] = "cpu",
    precision: PRECISION = "auto",
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="File to resume from after an interruption.")
    ] = None,
    limit: LIMIT = None,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    reading: Reading,
    shown: Shown,
) -> int:
    """Train a student model to match a teacher model's outputs. Needs torch, but no labels or training code."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.passes.distill import Distill
    from onnxopt.tasks.apply import apply

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
        precision=precision,
        checkpoint=checkpoint or "",
    )
    with ProgressBar(shown) as bar:
        made = apply(
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
    output: Annotated[
        str | None, typer.Option("--output", help="Model output that the labels belong to. Default: the first.")
    ] = None,
    epochs: Annotated[float, typer.Option("--epochs", help="Number of passes over the samples.")] = 5.0,
    steps: Annotated[int, typer.Option("--steps", help="Number of optimizer steps, instead of --epochs.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per step.")] = 64,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 1e-3,
    augment: Annotated[
        str | None, typer.Option("--augment", help="Images: flip, crop, cutout; comma-separated.")
    ] = None,
    batch_norm: Annotated[
        str, typer.Option("--batch-norm", help="Batch-norm statistics: frozen or trained.")
    ] = "frozen",
    device: Annotated[str, typer.Option("--device", help="Torch device: cpu, cuda, ...")] = "cpu",
    precision: PRECISION = "auto",
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
    from onnxopt.tasks.apply import apply

    options = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "loss": loss,
        "output": output or "",
        "augment": tuple(augment.split(",")) if augment else (),
        "batch_norm": batch_norm,
        "device": device,
        "precision": precision,
        "checkpoint": checkpoint or "",
    }
    with ProgressBar(shown) as bar:
        made = apply(
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
