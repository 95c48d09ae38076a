"""Models on another device: benchmark kit, run over ssh, table of the result."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from onnxopt import model_file
from onnxopt.document.blocks import Document, Facts, Text
from onnxopt.errors import FileError, ModelError
from onnxopt.measure.device.heat import HOTTEST_CELSIUS
from onnxopt.measure.device.kit import write_kit
from onnxopt.measure.device.place import place_of
from onnxopt.measure.device.result import DeviceResult, read_result
from onnxopt.measure.device.ssh import run_on_board
from onnxopt.measure.latency import drawn_inputs
from onnxopt.model_file import signature_of
from onnxopt.report.device_result import device_record, device_table
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.search.parts import typical_feeds

CHECKED = 32
"""Number of samples for the comparison of predictions with this machine."""


def bundle(
    models: Sequence[str | Path],
    data: object,
    *,
    out: str | Path,
    threads: int = 1,
    seconds: float = 5.0,
    batch_size: int = 1,
    samples: int = CHECKED,
    hot: bool = False,
    read: ReadOptions | None = None,
    seed: int = 0,
    provider: str = "cpu",
    max_celsius: float = HOTTEST_CELSIUS,
) -> Path:
    """Write a benchmark kit for another device: one Python file that needs only onnxruntime and numpy, and its data.

    Args:
        models: files with the same inputs, the baseline first.
        data: samples to run on.
        out: a folder that does not exist or is empty.
        threads: compute threads of one run there.
        seconds: seconds of timed runs there.
        batch_size: the batch size at which latency is measured.
        hot: time one input repeatedly, instead of alternating inputs of `data`.
        samples: number of those whose predictions are compared with this machine's.
        read: options of the data readers.
        seed: the seed of the order of runs.
        provider: execution provider of the device.
        max_celsius: highest temperature of the device at the start, in degrees Celsius.

    Returns:
        The folder.

    Raises:
        UsageError: ONX102 there is no such provider.
        FileError: ONX502 the folder is not empty.
        OnnxoptError: ONX2xx data, ONX3xx model.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileError(
            "ONX502", "the output folder exists already", where=str(folder), hint="Name a new folder with --out."
        )
    named = _named(models)
    opened = open_samples(data, signature_of(model_file.load(next(iter(named.values())))), options=read)
    timed = (typical_feeds(opened, batch_size),) if hot else drawn_inputs(opened, batch_size)
    checked = opened.take(samples)
    return write_kit(
        named,
        timed,
        checked,
        folder,
        threads=threads,
        seconds=seconds,
        seed=seed,
        provider=provider,
        max_celsius=max_celsius,
    )


def measure_on(
    device: str,
    models: Sequence[str | Path],
    data: object,
    *,
    threads: int = 1,
    seconds: float = 5.0,
    batch_size: int = 1,
    hot: bool = False,
    read: ReadOptions | None = None,
    seed: int = 0,
) -> DeviceResult:
    """Measure `models` on a board or under another Python of this machine.

    See `onnxopt.measure.device.place.place_of` for the forms of `device`.

    Raises:
        NativeError: ONX404 the board cannot be reached, ONX405 the run failed there.
        OnnxoptError: ONX2xx data, ONX3xx model.
    """
    place = place_of(device)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        kit = bundle(
            models,
            data,
            out=Path(folder) / "kit",
            threads=threads,
            seconds=seconds,
            batch_size=batch_size,
            hot=hot,
            read=read,
            seed=seed,
            provider=place.provider,
            max_celsius=place.max_celsius,
        )
        return read_result(run_on_board(kit, place))


def _named(models: Sequence[str | Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    wanted: list[str] | None = None
    for path in map(Path, models):
        inputs = [spec.name for spec in signature_of(model_file.load(path)).inputs]
        if wanted is not None and inputs != wanted:
            why = f"{', '.join(inputs)} against {', '.join(wanted)}"
            raise ModelError("ONX308", "the models do not have the same inputs", where=str(path), why=why)
        wanted = inputs
        named[str(path) if str(path) not in named else f"{path} ({len(named) + 1})"] = path
    return named


def device_document(result: DeviceResult) -> Document:
    """Return the table of a kit's result."""
    found = device_record(result)
    notes = [f"No times: {result.refused}."] if result.refused else []
    notes.append("The reference for predictions is the machine that made the kit.")
    return Document((Facts(tuple(found.facts.items())), device_table(found), Text(tuple(notes))), asdict(result))
