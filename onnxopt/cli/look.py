"""Commands that only read: inspect, passes, doctor, schema."""

from typing import Annotated

import typer

from onnxopt.cli.options import MODEL, Shown
from onnxopt.cli.output import emit, json_text
from onnxopt.errors import ExitCode, UsageError


def inspect(
    model: MODEL,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Show only the expected data, with code that makes an example.")
    ] = False,
    dim: Annotated[
        list[str] | None,
        typer.Option("--dim", metavar="NAME=SIZE", help="Size of a dynamic dimension, for the MACs; repeat it."),
    ] = None,
    sparsity: Annotated[
        bool, typer.Option("--sparsity", help="Add the sparsity of the model and of each layer; reads every weight.")
    ] = False,
    time: Annotated[bool, typer.Option("--time", help="Add the time per operator; runs the model.")] = False,
    advise: Annotated[
        bool, typer.Option("--advise", help="Add the applicable passes; tries those that need no data.")
    ] = False,
    groups: Annotated[
        bool,
        typer.Option(
            "--groups", help="Show only the channel groups for pruning, and the channels that cannot be pruned."
        ),
    ] = False,
    spectrum: Annotated[
        bool,
        typer.Option("--spectrum", help="Show only the rank that each layer needs, and the saving by factorization."),
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --spectrum: time each layer, original and factorized.")
    ] = False,
    shown: Shown,
) -> int:
    """Show inputs, outputs, size, layers and cost."""
    from onnxopt.tasks.inspect import inspect as inspect_model

    document = inspect_model(
        model,
        dim=_sizes(dim or []),
        sparsity=sparsity,
        time=time,
        advise=advise,
        schema=schema,
        groups=groups,
        spectrum=spectrum,
        measure=measure,
    )
    emit(document, shown)
    return ExitCode.OK


def _sizes(texts: list[str]) -> dict[str, int]:
    sizes = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not number.isdecimal() or not int(number):
            raise UsageError("ONX101", "a dimension cannot be read", where=text, hint="Write --dim batch=8.")
        sizes[name] = int(number)
    return sizes


def passes(
    name: Annotated[str | None, typer.Argument(help="Name of a pass. Default: all.", show_default=False)] = None,
    *,
    shown: Shown,
) -> int:
    """List passes with their effects, requirements and options."""
    from onnxopt.tasks.pass_list import passes_document

    emit(passes_document(name), shown)
    return ExitCode.OK


def doctor(*, shown: Shown) -> int:
    """Check this installation. A missing part ends with exit code 1."""
    from onnxopt.tasks.doctor import examine

    document, healthy = examine()
    emit(document, shown)
    return ExitCode.OK if healthy else ExitCode.LIMIT_NOT_MET


def schema() -> int:
    """Print the JSON Schema of run.json."""
    from onnxopt.record.run import RunRecord

    print(json_text(RunRecord.model_json_schema()), end="")
    return ExitCode.OK
