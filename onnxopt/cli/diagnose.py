"""Commands that say where precision is lost: diagnose, sensitivity."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import DATA, LIMIT, MODEL, OVERWRITE, SEED, TARGET, Reading, Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode, UsageError


def diagnose(
    model: MODEL,
    quantized: Annotated[Path, typer.Argument(help="INT8 file made from it.", show_default=False)],
    *,
    data: DATA,
    keep: Annotated[int, typer.Option("--keep", help="How many of the worst layers --out names.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File of layers to keep in float, for `quantize --overrides`.")
    ] = None,
    limit: LIMIT = 64,
    overwrite: OVERWRITE = False,
    reading: Reading,
    shown: Shown,
) -> int:
    """Rank the layers of a quantized model by what they lose, and say which run in INT8."""
    quieten(shown)
    if keep < 0:
        raise UsageError("ONX101", "an option makes no sense", where="--keep", why=f"{keep} given", hint="0 or more.")
    from onnxopt.tasks.diagnosis import diagnose_models

    document = diagnose_models(
        model, quantized, data, keep=keep, out=out, overwrite=overwrite, limit=limit, read=reading.options()
    )
    emit(document, shown)
    return ExitCode.OK


def sensitivity(
    model: MODEL,
    *,
    data: DATA,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.html", help="Also draw it, as a page that needs no network.")
    ] = None,
    overwrite: OVERWRITE = False,
    limit: LIMIT = 256,
    target: TARGET = "auto",
    seed: SEED = 0,
    reading: Reading,
    shown: Shown,
) -> int:
    """Show what INT8 and pruning of each layer alone do to the outputs."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.sensitivity import sensitivity_document

    with ProgressBar(shown) as bar:
        document = sensitivity_document(
            model,
            data,
            limit=limit,
            target=target,
            seed=seed,
            read=reading.options(),
            progress=bar.show,
            plot=plot,
            overwrite=overwrite,
        )
    emit(document, shown)
    return ExitCode.OK
