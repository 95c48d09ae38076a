"""Commands for deployment and other devices: session, bundle, device-result."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import BATCH_SIZE, DATA, MAYBE_DATA, MODEL, OVERWRITE, SEED, Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode
from onnxopt.options.choices import SessionGoal
from onnxopt.options.reading import ReadOptions


def session(
    model: MODEL,
    *,
    data: MAYBE_DATA = None,
    goal: Annotated[
        SessionGoal,
        typer.Option(
            "--goal",
            help="Time of a run; load and first run in a fresh process; its private memory; samples per second of "
            "several processes.",
        ),
    ] = "latency",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write beside the model. [default: session.json]", show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            help="Largest number of compute threads; the default session has as many. [default: physical cores]",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="Throughput: processes at once. [default: physical cores]")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Measurement time per comparison of choices.")] = 5.0,
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Search the session settings of a finished model.

    Each is measured and kept only if it is significantly better; session.json, beside the model, holds them.
    """
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.session.tune import tune_session

    with ProgressBar(shown) as bar:
        done = tune_session(
            model,
            data,
            goal=goal,
            out=out,
            threads=threads,
            processes=processes,
            seconds=seconds,
            overwrite=overwrite,
            read=read,
            seed=seed,
            progress=bar.show,
        )
    emit(done.document, shown)
    return ExitCode.OK


def bundle(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is the baseline.", show_default=False)],
    *,
    data: DATA,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)],
    threads: Annotated[int, typer.Option("--threads", help="Compute threads per run on the device.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", help="Measurement time on the device.")] = 5.0,
    batch_size: BATCH_SIZE = 1,
    samples: Annotated[int, typer.Option("--samples", help="Samples for the comparison of predictions.")] = 32,
    max_celsius: Annotated[
        float, typer.Option("--max-celsius", help="Highest temperature of the device at the start.")
    ] = 75.0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Write a benchmark kit for a device without onnxopt.

    The kit needs onnxruntime and numpy only.
    """
    quieten(shown)
    from onnxopt.document.blocks import Document, Text
    from onnxopt.tasks.device import bundle as write

    folder = write(
        models,
        data,
        out=out,
        threads=threads,
        seconds=seconds,
        batch_size=batch_size,
        samples=samples,
        read=read,
        max_celsius=max_celsius,
    )
    lines = (
        f"Written: {folder}",
        f"On the device: python {folder.name}/run.py",
        "Back here: onnxopt device-result result.json",
    )
    emit(Document((Text(lines),), {"bundle": str(folder)}), shown)
    return ExitCode.OK


def device_result(
    result: Annotated[Path, typer.Argument(help="result.json of a benchmark kit.", show_default=False)],
    *,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Run folder of the kit's best.onnx; the result is added to its report."),
    ] = None,
    shown: Shown,
) -> int:
    """Show the result of a benchmark kit."""
    quieten(shown)
    from onnxopt.tasks.benchmark import device_result as read

    emit(read(result, run=run).document, shown)
    return ExitCode.OK
