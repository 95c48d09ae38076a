"""Go on with a search: resume."""

import shlex
from contextlib import chdir
from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import Shown
from onnxopt.cli.output import quieten
from onnxopt.errors import UsageError


def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was interrupted.", show_default=False)],
    *,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", help="Of what is left, instead of the first one.")
    ] = None,
    shown: Shown,
) -> int:
    """Go on with an interrupted search, with the options it was begun with; what was measured is kept."""
    quieten(shown)
    from onnxopt.cli.entry import main
    from onnxopt.report.runs import read_run

    place, words = _begun_with(run, read_run(run).command)
    words += ["--out", str(run.resolve()), "--resume", "--format", shown.format.value]
    words += ["--time-limit", str(time_limit)] if time_limit is not None else []
    with chdir(place):
        return main(words)


def _begun_with(run: Path, command: str | None) -> tuple[Path, list[str]]:
    """Return the folder a search was begun in, and the words after `onnxopt`."""
    words = shlex.split(command or "")
    if words[:1] != ["cd"] or words[2:5] != ["&&", "onnxopt", "optimize"] or not Path(words[1]).is_dir():
        raise UsageError(
            "ONX110",
            "there is no search to resume",
            where=str(run),
            why="it was not begun with: onnxopt optimize",
            hint="From Python: onnxopt.optimize(..., resume=True) with the arguments it was begun with.",
        )
    return Path(words[1]), words[4:]
