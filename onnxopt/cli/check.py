"""Commands for pipelines: check, verify, card."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import Shown
from onnxopt.cli.output import emit
from onnxopt.errors import ExitCode


def check(
    models: Annotated[list[Path], typer.Argument(help="ONNX files.", show_default=False)],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 on warnings too.")] = False,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CODE", help="Finding to ignore, such as CHK203; repeat it.")
    ] = None,
    shown: Shown,
) -> int:
    """Check that models are valid and safe to ship. Errors end with exit code 1."""
    from onnxopt.tasks.check import check as check_models

    found = check_models(models, strict=strict, ignore=ignore or ())
    emit(found.document, shown)
    return ExitCode.OK if found.passed else ExitCode.LIMIT_NOT_MET


def verify(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    *,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0.0,
            show_default="0.001; 0.05 when quantized",
            help="Largest accepted difference of an output, relative to its largest magnitude.",
        ),
    ] = None,
    shown: Shown,
) -> int:
    """Check a run folder's checksums and its model's outputs.

    The outputs are computed on this machine and compared with the recorded ones.
    """
    from onnxopt.run.verify import verify as verified

    found = verified(run, tolerance=tolerance)
    emit(found.document, shown)
    return ExitCode.OK if found.passed else ExitCode.LIMIT_NOT_MET


def card(run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]) -> int:
    """Print the model-card section of a run, in Markdown."""
    from onnxopt.run.finished import card as text_of

    print(text_of(run), end="")
    return ExitCode.OK
