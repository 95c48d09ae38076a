"""Commands that mend files: repair."""

from typing import Annotated

import typer

from onnxopt.cli.options import DRY_RUN, MAYBE_DATA, MODEL, OUT_MODEL, OVERWRITE, SEED, TARGET, Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode
from onnxopt.options.declared import about
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime


def repair(
    model: MODEL,
    *,
    out: OUT_MODEL,
    data: MAYBE_DATA = None,
    max_change: Annotated[
        float,
        typer.Option(
            "--max-change", min=0, max=0.99, help="Of outputs, by repairs that are not exact (RMS, relative); 0: none."
        ),
    ] = 0.05,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="Of timed runs per repair.")] = 2.0,
    threads: Annotated[int, typer.Option("--threads", help=about(Runtime, "threads"))] = 1,
    target: TARGET = "auto",
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Mend quantized files that are slow or large, without data.

    Every repair is proved and measured, or undone.
    """
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.repair import repair as repaired

    with ProgressBar(shown) as bar:
        done = repaired(
            model,
            data,
            out=out,
            target=target,
            max_change=max_change,
            seconds=seconds,
            runtime=Runtime(threads=threads),
            read=read,
            overwrite=overwrite,
            dry_run=dry_run,
            seed=seed,
            progress=bar.show,
        )
    emit(done.document, shown)
    return ExitCode.OK
