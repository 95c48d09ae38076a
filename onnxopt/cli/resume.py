"""Command that continues a search: resume."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import Shown
from onnxopt.cli.output import quieten
from onnxopt.cli.search import search
from onnxopt.errors import UsageError
from onnxopt.options.runtime import session_entry


def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was interrupted.", show_default=False)],
    *,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", metavar="SECONDS", help="Time limit for the remaining search; replaces the original one."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="file.py:function of the original search; code is never taken from a run folder."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="ssh://USER@BOARD", help="Device of the original search.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="tcp://HOST:PORT", help="Scheduler of the original search.")
    ] = None,
    bench: Annotated[str | None, typer.Option("--bench", help="With --cluster: as in the original search.")] = None,
    tls: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--tls", metavar="CA CERT KEY", help="With --cluster: as in the original search."),
    ] = None,
    session_option: Annotated[
        list[str] | None,
        typer.Option("--session-option", metavar="KEY=VALUE", help="Session entry of the original search; repeat it."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Path of the model, if it was in memory or has moved.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Path of the samples, if they were in memory or have moved.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="Path of the labels, if they were in memory or have moved.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option("--calibration", help="Path of the calibration samples, if they have moved.")
    ] = None,
    shown: Shown,
) -> int:
    """Continue an interrupted search with its recorded options. Finished measurements are kept."""
    quieten(shown)
    from onnxopt.run.runs import read_record

    options = read_record(run).options
    if options is None or not run.is_dir():
        raise UsageError(
            "ONX110",
            "there is no search to resume",
            where=str(run),
            why="the folder has no record of search options",
            hint="Repeat the original options: onnxopt optimize MODEL --data DATA --out FOLDER --resume.",
        )
    given = {
        "model": model,
        "data": data,
        "labels": labels,
        "calibration": calibration,
        "metric": metric,
        "device": device,
        "cluster": cluster,
        "bench": bench,
        "tls": tls,
        "time_limit_s": time_limit,
        "session_options": tuple(map(session_entry, session_option or ())),
    }
    return search({**options.arguments(run, given), "resume": True}, run.resolve(), shown)
