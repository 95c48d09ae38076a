"""Commands that show finished runs and log them: report, log-run."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import OVERWRITE, Shown
from onnxopt.cli.output import emit, note, quieten
from onnxopt.errors import ExitCode, UsageError


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared.", show_default=False)],
    *,
    open_: Annotated[bool, typer.Option("--open", help="Open report.html in the browser.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the HTML report of one run to this file.")
    ] = None,
    overwrite: OVERWRITE = False,
    shown: Shown,
) -> int:
    """Show a finished run, or compare several runs."""
    if len(runs) > 1 and (open_ or out is not None):
        hint = "Give one run, or leave the option out."
        raise UsageError("ONX112", "this option takes one run", where="--open" if open_ else "--out", hint=hint)
    from onnxopt.report.summary import summary
    from onnxopt.run.finished import compare_runs, read_run
    from onnxopt.run.runs import open_page

    if len(runs) > 1:
        emit(compare_runs(runs).document, shown)
        return ExitCode.OK
    run = read_run(runs[0])
    emit(summary(run.record, runs[0]), shown)
    if open_ or out is not None:
        page = run.report(out, overwrite=overwrite)
        if open_ and not open_page(page):
            note(f"No browser was found: open {page} in one.", shown)
    return ExitCode.OK


def log_run(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    *,
    uri: Annotated[
        str, typer.Option("--uri", help="Tracking store: http://host:5000, sqlite:///runs.db, ...", show_default=False)
    ],
    experiment: Annotated[str, typer.Option("--experiment", help="Name of the experiment.")] = "onnxopt",
    shown: Shown,
) -> int:
    """Log a finished run to MLflow: settings, metrics, report."""
    quieten(shown)
    from onnxopt.document.blocks import Document, Text
    from onnxopt.run.tracking import log_run as log

    number = log(run, uri=uri, experiment=experiment)
    emit(Document((Text((f"Logged to {uri} as run {number}.",)),), {"run_id": number, "uri": uri}), shown)
    return ExitCode.OK
