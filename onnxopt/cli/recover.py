"""Commands that recover accuracy by training: distill, finetune. Their options are those of the passes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxopt.cli.make import emit_made
from onnxopt.cli.options import DATA, LABELS, LIMIT, MODEL, OUT_MODEL, OVERWRITE, SEED, Shown
from onnxopt.cli.output import quieten
from onnxopt.errors import ExitCode
from onnxopt.options.reading import ReadOptions
from onnxopt.options.training import DistillOptions, FinetuneOptions


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
    options: DistillOptions,
    limit: LIMIT = None,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Train a student model to match a teacher model's outputs. Needs torch, but no labels or training code."""
    rest = {"data": data, "out": out, "labels": labels, "limit": limit, "seed": seed, "overwrite": overwrite}
    return _train("distill", student, asdict(options), {**rest, "teacher": teacher, "read": read}, shown)


def finetune(
    model: MODEL,
    *,
    data: DATA,
    out: OUT_MODEL,
    labels: LABELS = None,
    options: FinetuneOptions,
    limit: LIMIT = None,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Train a model on labels, without its training code. Needs torch."""
    rest = {"data": data, "out": out, "labels": labels, "limit": limit, "seed": seed, "overwrite": overwrite}
    return _train("finetune", model, asdict(options), {**rest, "read": read}, shown)


def _train(name: str, model: Path, options: Mapping[str, Any], rest: Mapping[str, Any], shown: Shown) -> int:
    quieten(shown)
    from onnxopt.catalog import make_pass
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.apply import apply

    with ProgressBar(shown) as bar:
        made = apply(model, (make_pass(name, options),), progress=bar.show, **rest)
    emit_made(model, made, shown)
    return ExitCode.OK if made.optimized.steps[-1].edits else ExitCode.LIMIT_NOT_MET
