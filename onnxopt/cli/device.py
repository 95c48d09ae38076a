"""Commands for other devices: bundle, device-result."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import DATA, Reading, Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode


def bundle(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is the baseline.", show_default=False)],
    *,
    data: DATA,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)],
    threads: Annotated[int, typer.Option("--threads", help="Compute threads of one run there.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", help="Time to spend on timed runs there.")] = 5.0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Batch size at which latency is measured.")] = 1,
    samples: Annotated[int, typer.Option("--samples", help="Samples whose predictions are compared.")] = 32,
    reading: Reading,
    shown: Shown,
) -> int:
    """Write a kit that measures models on a device with only onnxruntime and numpy."""
    quieten(shown)
    from onnxopt.document.blocks import Document, Text
    from onnxopt.tasks.device import bundle as write

    folder = write(
        models,
        data,
        out,
        threads=threads,
        seconds=seconds,
        batch_size=batch_size,
        checked=samples,
        read=reading.options(),
    )
    lines = (
        f"Written: {folder}",
        f"On the device: python {folder.name}/run.py",
        "Back here: onnxopt device-result result.json",
    )
    emit(Document((Text(lines),), {"bundle": str(folder)}), shown)
    return ExitCode.OK


def device_result(
    result: Annotated[Path, typer.Argument(help="result.json that a kit wrote.", show_default=False)],
    *,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run whose best.onnx was in the kit: its report shows this too."),
    ] = None,
    shown: Shown,
) -> int:
    """Show what a kit found on its device."""
    quieten(shown)
    from onnxopt.measure.device.result import read_result
    from onnxopt.tasks.device import device_document

    found = read_result(result)
    if run is not None:
        from onnxopt.run.add_device import add_to_run

        add_to_run(found, run)
    emit(device_document(found), shown)
    return ExitCode.OK
