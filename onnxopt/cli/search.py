"""The main command: optimize."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxopt.cli.options import DRY_RUN, LABELS, MAYBE_DATA, MODEL, Shown
from onnxopt.cli.output import emit, note, quieten
from onnxopt.errors import ExitCode, UsageError
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.search import SearchOptions
from onnxopt.options.tasks import TaskOptions
from onnxopt.printable import printable


def optimize(
    model: MODEL,
    *,
    data: MAYBE_DATA = None,
    labels: LABELS = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", help="Calibration samples. Default: a part of --data, which is excluded from evaluation."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the best model, the record and the report.")
    ] = Path("onnxopt-run"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the folder; keep all other files.")
    ] = False,
    dry_run: DRY_RUN = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in --out that has the same options.")
    ] = False,
    options: SearchOptions,
    tasks: TaskOptions,
    runtime: Runtime,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Find the best model within an accuracy budget. The proof uses samples that no choice depends on.

    MODEL may be a published folder with one model (sentence-transformers, transformers.js), or of encoder and decoder:
    its tokenizer reads the texts, and the folder is written again as OUT/model.
    """
    quieten(shown)
    folder = model if model.is_dir() else None
    if folder is not None:
        from onnxopt.tasks.parts.roles import folder_of_parts
        from onnxopt.tasks.variants.published import only_model, refuse_whole, with_tokenizer

        if folder_of_parts(folder):
            other = {"--labels": labels, "--calibration": calibration, "--overwrite": overwrite or None}
            other |= {"--resume": resume or None, "--dry-run": dry_run or None}
            other |= {"--task": None if tasks == TaskOptions() else True}
            return _optimize_parts(folder, data, other, out, options=options, runtime=runtime, read=read, shown=shown)
        model, read = only_model(folder), with_tokenizer(folder, read)
        refuse_whole(out)
    if data is None:
        from onnxopt.tasks.data.first_steps import first_steps

        emit(first_steps(model), shown)
        hint = "The output has the commands that make some, and those that need none."
        raise UsageError("ONX114", "samples are needed here, and none were given", where="--data", hint=hint)
    rest: dict[str, Any] = {
        "labels": labels,
        "calibration": calibration,
        "tasks": tasks,
        "runtime": runtime,
        "read": read,
    }
    if dry_run:
        from onnxopt.run.plan import plan_document

        emit(plan_document(model, data, options, out=out, overwrite=overwrite, rest=rest), shown)
        return ExitCode.OK
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(['onnxopt', *sys.argv[1:]])}"
    given = {**rest, "model": model, "data": data, "options": options, "overwrite": overwrite, "resume": resume}
    code = search(given, out, shown, command, again=None if folder is None else _resumed())
    if folder is not None and code in (ExitCode.OK, ExitCode.LIMIT_NOT_MET):
        _write_folder(out, folder, model, shown)
    return code


def _resumed() -> str:
    """Return the command line that continues this one; `resume RUN` would not write a published folder again."""
    words = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
    return shlex.join(["onnxopt", *words, "--resume"])


def _optimize_parts(
    folder: Path,
    data: object,
    given: Mapping[str, object],
    out: Path,
    *,
    options: SearchOptions,
    runtime: Runtime,
    read: ReadOptions,
    shown: Shown,
) -> int:
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.parts.optimize import optimize_parts

    for name, value in given.items():
        if value is not None:
            raise UsageError("ONX112", "this is not for a folder of parts", where=name, hint="Leave it out.")
    if data is None:
        hint = "Give texts or inputs of the encoder with --data."
        raise UsageError("ONX114", "samples are needed here, and none were given", where="--data", hint=hint)
    with ProgressBar(shown) as bar:
        made = optimize_parts(folder, data, options=options, out=out, runtime=runtime, read=read, progress=bar.show)
    emit(made.document, shown)
    return ExitCode.OK if made.out is not None else ExitCode.LIMIT_NOT_MET


def _write_folder(out: Path, folder: Path, model: Path, shown: Shown) -> None:
    from onnxopt.run.finished import read_run
    from onnxopt.tasks.variants.published import write_whole

    won = read_run(out).won
    note(
        f"Written: {write_whole(out, folder, model)}"
        if won
        else f"{folder} was not written again, because no candidate won.",
        shown,
    )


def search(
    asked: Mapping[str, Any], out: Path, shown: Shown, command: str | None = None, *, again: str | None = None
) -> int:
    """Run a search with the arguments of `onnxopt.optimize` and show its progress and result.

    Args:
        asked: the arguments.
        out: the run folder.
        shown: how the result is shown.
        command: the command line, for the record.
        again: the command line that continues the search, where `onnxopt resume` would not do all of it.
    """
    from onnxopt.cli.progress import ProgressBar, SearchBar
    from onnxopt.report.summary import summary
    from onnxopt.run.optimize import optimize as find_best

    def say(text: str) -> None:
        if shown.verbose:
            note(text, shown)

    bar = ProgressBar(shown)
    observer = SearchBar(bar, say)
    try:
        with bar:
            run = find_best(**asked, out=out, observer=observer, command=command)
    except KeyboardInterrupt:
        kept = (
            f"results so far are in {out}; to continue: {again or f'onnxopt resume {shlex.quote(str(out))}'}"
            if observer.began
            else "nothing was written"
        )
        print(printable(f"interrupted: {kept}"), file=sys.stderr)
        return ExitCode.INTERRUPTED
    emit(summary(run.record, run.folder), shown)
    met = run.won and run.record.aim_reached is not False
    return ExitCode.OK if met else ExitCode.LIMIT_NOT_MET
