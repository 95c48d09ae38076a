"""Commands that prepare a search: data, init."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxopt.cli.options import LIMIT, MODEL, OVERWRITE, Shown
from onnxopt.cli.output import emit, note, quieten
from onnxopt.errors import ExitCode
from onnxopt.options.reading import ReadOptions
from onnxopt.printable import printable

LEFT_OUT = frozenset({"config", "overwrite", "dry-run", "quiet", "verbose", "format"})
"""Options of a single call, which the file leaves out."""


def data(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of images or sound (.wav, .flac, .ogg); table (.csv, .tsv, .jsonl, .parquet); .npz or .npy; "
            "`random`.",
            show_default=False,
        ),
    ],
    *,
    model: Annotated[Path, typer.Option("--for", help="ONNX file that the samples are for.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File .npz to write, or a new folder. [default: samples.npz, or folder samples where shapes differ]",
        ),
    ] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="File of labels, if SOURCE has none.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="INPUT=OUTPUT",
            help="Input that takes an output of the step before; repeat it. Default: by name and shape.",
        ),
    ] = None,
    limit: LIMIT = None,
    overwrite: OVERWRITE = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Write a model's samples to one file; show the first."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.data.make import data as make_samples

    with ProgressBar(shown) as bar:
        made = make_samples(
            source,
            model,
            out=out,
            labels=labels,
            state=state or (),
            limit=limit,
            read=read,
            overwrite=overwrite,
            progress=bar.show,
        )
    emit(made.document, shown)
    return ExitCode.OK


def init(
    context: typer.Context,
    model: MODEL,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write. [default: onnxopt.toml; with --github .github/workflows/onnxopt.yml]",
        ),
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Write a GitHub workflow instead; run this at the root of the repository.")
    ] = False,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Samples, as for `optimize`.")] = None,
    max_drop: Annotated[str | None, typer.Option("--max-drop", help="Accuracy budget. [default: 1pp]")] = None,
    overwrite: OVERWRITE = False,
    shown: Shown,
) -> int:
    """Write a commented configuration file, or a GitHub workflow."""
    from onnxopt.search.budget import Budget
    from onnxopt.tasks.config_file import config_text, write_config

    if max_drop is not None:
        Budget.parse(max_drop)
    if github:
        return _workflow(model, out, data, max_drop or "1pp", overwrite)
    out = out or Path("onnxopt.toml")
    text = config_text(model, _options(context), data, max_drop)
    write_config(out, text, overwrite=overwrite, source=model, data=data)
    missing = "" if data else " Set `data` in it to your samples, or add --data."
    command = f"onnxopt optimize {shlex.quote(str(model))} --config {shlex.quote(str(out))}"
    print(printable(f"Written: {out}.{missing} Next: {command}"))
    if shown.verbose:
        note("The file lists every option with its default, commented out.", shown)
    return ExitCode.OK


def _workflow(model: Path, out: Path | None, data: str | None, max_drop: str, overwrite: bool) -> int:
    from onnxopt.model_file import load
    from onnxopt.tasks.workflow import WORKFLOW, workflow_text, write_workflow

    load(model)
    samples, file = data or "samples.npz", out or WORKFLOW
    write_workflow(file, workflow_text(model, samples, max_drop), overwrite=overwrite, source=model, data=samples)
    missing = "" if data else f" It reads {samples}: write it with onnxopt data, or change DATA."
    print(printable(f"Written: {file}.{missing} Next: commit it with the model and the samples."))
    return ExitCode.OK


def _options(context: typer.Context) -> list[Any]:
    from onnxopt.tasks.config_file import ConfigOption

    parent = context.parent
    commands = getattr(parent.command, "commands", {}) if parent else {}
    found = []
    for parameter in commands["optimize"].params if "optimize" in commands else ():
        if parameter.param_type_name != "option":
            continue
        name = next((n.removeprefix("--") for n in parameter.opts if n.startswith("--")), "")
        if name and name not in LEFT_OUT and name != "help":
            found.append(ConfigOption(name, parameter.help or "", _toml(parameter.default)))
    return found


def _toml(default: object) -> str | None:
    """Return a default as TOML; None where there is none."""
    if isinstance(default, Path):
        default = str(default)
    return json.dumps(default, ensure_ascii=False) if isinstance(default, str | bool | int | float) else None
