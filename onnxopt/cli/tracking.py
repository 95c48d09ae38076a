"""Command that logs a finished run to MLflow: log-run."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode


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
