"""Commands for files that others made or will use: repair, variants, audit."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxopt.cli.options import (
    DRY_RUN,
    LIMIT,
    MAX_DROP,
    MAYBE_DATA,
    MODEL,
    OUT_MODEL,
    OVERWRITE,
    SEED,
    TARGET,
    Shown,
)
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode, UsageError
from onnxopt.options.declared import about
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.tasks import TaskOptions

ConventionName = Literal["transformers.js", "sentence-transformers", "genai"]
"""Program that looks for files by their names."""


def repair(
    model: MODEL,
    *,
    out: OUT_MODEL,
    data: MAYBE_DATA = None,
    max_change: Annotated[
        float,
        typer.Option(
            "--max-change",
            min=0,
            max=0.99,
            help="Largest relative change (RMS) of outputs by inexact repairs; 0: none.",
        ),
    ] = 0.05,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="Measurement time per repair.")] = 2.0,
    threads: Annotated[int, typer.Option("--threads", help=about(Runtime, "threads"))] = 1,
    target: TARGET = "auto",
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Mend quantized or old files, each change measured, no data.

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


def variants(
    model: MODEL,
    *,
    convention: Annotated[
        ConventionName, typer.Option("--for", help="Program whose file names are used.", show_default=False)
    ],
    data: MAYBE_DATA = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write to. Default: that of the model.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="TYPE", help="Type to make, such as q8; repeat it.")
    ] = None,
    max_drop: MAX_DROP = None,
    limit: LIMIT = None,
    overwrite: OVERWRITE = False,
    tasks: TaskOptions,
    runtime: Runtime,
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Write the types of a model that a program looks for.

    Each file is loaded, run and compared with the float32 file. A broken one is not kept, and ends with exit code 1.
    Without --data the files run on made-up inputs.
    """
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.variants.make import variants as made

    with ProgressBar(shown) as bar:
        found = made(
            model,
            convention,
            data,
            out=out,
            only=only,
            max_drop=max_drop,
            tasks=tasks,
            runtime=runtime,
            read=read,
            limit=limit,
            seed=seed,
            overwrite=overwrite,
            progress=bar.show,
        )
    emit(found.document, shown)
    return ExitCode.OK if found.passed else ExitCode.LIMIT_NOT_MET


def audit(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a published model (transformers.js, sentence-transformers or onnxruntime-genai), "
            "or of a run of `optimize`.",
            show_default=False,
        ),
    ],
    *,
    data: MAYBE_DATA = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", help="The float32 file, where it is not in the folder; a run's, if it has moved."),
    ] = None,
    max_drop: MAX_DROP = None,
    limit: LIMIT = None,
    tasks: TaskOptions,
    runtime: Runtime,
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Check a published model's files, or the claims of a run.

    Each file is loaded, run and compared with its float32 file. A broken one ends with exit code 1. Without --data the
    files run on made-up inputs. Of a run, checksums and outputs are checked, and drop and speed-up are measured again,
    on its own data unless --data names them. A figure that differs ends with exit code 1.
    """
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.run.claims import audit_run, is_run
    from onnxopt.tasks.variants.audit import audit as audited

    if is_run(folder):
        others = {"--max-drop": max_drop is not None, "--limit": limit is not None, "--seed": seed != 0}
        others |= {"options of tasks": tasks != TaskOptions(), "options of reading": read != ReadOptions()}
        others |= {"options of the runtime": replace(runtime, options=()) != Runtime()}
        _refuse_recorded(folder, [name for name, given in others.items() if given])
        with ProgressBar(shown) as bar:
            claims = audit_run(
                folder, data, baseline=baseline, session_options=tuple(runtime.options), progress=bar.show
            )
        emit(claims.document, shown)
        return ExitCode.OK if claims.passed else ExitCode.LIMIT_NOT_MET
    with ProgressBar(shown) as bar:
        found = audited(
            folder,
            data,
            baseline=baseline,
            max_drop=max_drop,
            tasks=tasks,
            runtime=runtime,
            read=read,
            limit=limit,
            seed=seed,
            progress=bar.show,
        )
    emit(found.document, shown)
    return ExitCode.OK if found.passed else ExitCode.LIMIT_NOT_MET


def _refuse_recorded(folder: Path, given: list[str]) -> None:
    if given:
        raise UsageError(
            "ONX109",
            "a run is measured again with its recorded options",
            where=str(folder),
            why=f"{', '.join(given)} cannot be given",
            hint="Give --data, --baseline and --session-option alone.",
        )
