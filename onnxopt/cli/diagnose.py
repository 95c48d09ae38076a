"""Commands that locate the loss of precision: diagnose, sensitivity."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import DATA, LIMIT, MODEL, OVERWRITE, SEED, TARGET, Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode
from onnxopt.options.reading import ReadOptions


def diagnose(
    model: MODEL,
    quantized: Annotated[Path, typer.Argument(help="INT8 file made from MODEL.", show_default=False)],
    *,
    data: DATA,
    keep: Annotated[int, typer.Option("--keep", help="Number of the worst layers to write to --out.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for `quantize --overrides`: the layers to keep in float.")
    ] = None,
    limit: LIMIT = 64,
    overwrite: OVERWRITE = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Rank the layers of a quantized model by their error.

    The table also shows the layers that run in INT8.
    """
    quieten(shown)
    from onnxopt.tasks.diagnosis import diagnose as diagnose_model

    found = diagnose_model(model, quantized, data, keep=keep, out=out, overwrite=overwrite, limit=limit, read=read)
    emit(found.document, shown)
    return ExitCode.OK


def sensitivity(
    model: MODEL,
    *,
    data: DATA,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.html", help="Also write a heatmap as an offline HTML page.")
    ] = None,
    overwrite: OVERWRITE = False,
    limit: LIMIT = 256,
    target: TARGET = "auto",
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Measure the output error of INT8 and of pruning per layer."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.sensitivity import sensitivity as measure

    with ProgressBar(shown) as bar:
        found = measure(
            model,
            data,
            limit=limit,
            target=target,
            seed=seed,
            read=read,
            progress=bar.show,
            plot=plot,
            overwrite=overwrite,
        )
    emit(found.document, shown)
    return ExitCode.OK
