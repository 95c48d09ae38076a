"""Command that writes a configuration file: init."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxopt.cli.options import MODEL, OVERWRITE, Shown
from onnxopt.cli.output import note
from onnxopt.errors import ExitCode
from onnxopt.printable import printable

LEFT_OUT = frozenset({"config", "overwrite", "dry-run", "quiet", "verbose", "format"})
"""Options of a single call, which the file leaves out."""


def init(
    context: typer.Context,
    model: MODEL,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("onnxopt.toml"),
    data: Annotated[str | None, typer.Option("--data", "-d", help="Samples, as for `optimize`.")] = None,
    max_drop: Annotated[str | None, typer.Option("--max-drop", help="Accuracy budget. [default: 1pp]")] = None,
    overwrite: OVERWRITE = False,
    shown: Shown,
) -> int:
    """Write a configuration file with every option explained."""
    from onnxopt.search.budget import Budget
    from onnxopt.tasks.config_file import config_text, write_config

    if max_drop is not None:
        Budget.parse(max_drop)
    text = config_text(model, _options(context), data, max_drop)
    write_config(out, text, overwrite=overwrite, source=model, data=data)
    missing = "" if data else " Set `data` in it to your samples, or add --data."
    print(printable(f"Written: {out}.{missing} Next: onnxopt optimize {model} --config {out}"))
    if shown.verbose:
        note("The file lists every option with its default, commented out.", shown)
    return ExitCode.OK


def _options(context: typer.Context) -> list[Any]:
    from onnxopt.tasks.config_file import Option

    parent = context.parent
    commands = getattr(parent.command, "commands", {}) if parent else {}
    found = []
    for parameter in commands["optimize"].params if "optimize" in commands else ():
        if parameter.param_type_name != "option":
            continue
        name = next((n.removeprefix("--") for n in parameter.opts if n.startswith("--")), "")
        if name and name not in LEFT_OUT and name != "help":
            found.append(Option(name, parameter.help or "", _toml(parameter.default)))
    return found


def _toml(default: object) -> str | None:
    """Return a default as TOML; None where there is none."""
    if isinstance(default, Path):
        default = str(default)
    return json.dumps(default, ensure_ascii=False) if isinstance(default, str | bool | int | float) else None
