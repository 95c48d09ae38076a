"""A kit to measure models on another machine: one Python file, the models, samples and expected outputs."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np

from onnxopt import model_file
from onnxopt.errors import FileError, first_line
from onnxopt.files import hidden
from onnxopt.measure.device.heat import HOTTEST_CELSIUS
from onnxopt.measure.runtime.providers import full_name
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file.save import external_files
from onnxopt.samples import Feeds

FORMAT = 1
RUNNER, JOB, RESULT, OUTPUTS = "run.py", "job.json", "result.json", "outputs.npz"
INLINED = (
    ("onnxopt.measure.runtime", "emulation"),
    ("onnxopt.measure.latency", "watch"),
    ("onnxopt.measure.latency", "rounds"),
    ("onnxopt.measure.latency", "estimate"),
    ("onnxopt.measure.device", "heat"),
    ("onnxopt.measure.device", "runner"),
)
ABOUT = """To measure these models on a device, copy this folder there and run

    python run.py

Python 3.10 or newer, onnxruntime and numpy are all it needs. It writes result.json and outputs.npz;
bring result.json back and look at it with: onnxopt device-result result.json
"""


def write_kit(
    models: Mapping[str, Path],
    timed: Sequence[Feeds],
    checked: Iterable[Feeds],
    folder: Path,
    *,
    threads: int = 1,
    seconds: float = 5.0,
    epochs: int = 6,
    seed: int = 0,
    provider: str = "cpu",
    max_celsius: float = HOTTEST_CELSIUS,
    cool_down_s: float = 0.0,
) -> Path:
    """Write a kit into `folder`, which must be empty or not exist, and return it.

    Args:
        models: files by name, the baseline first.
        timed: the batches to time, in turn.
        checked: batches whose outputs are compared with this machine's.
        folder: the folder of the kit.
        threads: compute threads of one run.
        seconds: time of the timed runs, all models together.
        epochs: number of loads of every model.
        seed: seed of the order of runs.
        provider: execution provider of the device; outputs are compared with those of the processor here.
        max_celsius: highest temperature of the device at the start.
        cool_down_s: longest time that the device waits for that temperature, before it refuses to start.

    Raises:
        UsageError: ONX102 there is no such provider.
        ModelError: ONX304 a model cannot be loaded.
        NativeError: ONX401 a model cannot be run.
        FileError: ONX503 the folder cannot be written.
    """
    with _whole(folder) as made:
        _fill(
            made,
            models,
            timed,
            checked,
            threads=threads,
            seconds=seconds,
            epochs=epochs,
            seed=seed,
            provider=full_name(provider),
            heat={"max_celsius": max_celsius, "cool_down_s": cool_down_s},
        )
    return folder


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to `folder` when it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=hidden(folder.name)) as place:
            made = Path(place) / folder.name
            made.mkdir()
            yield made
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise FileError(
            "ONX503", "cannot write the output", where=str(folder), why=error.strerror or first_line(error)
        ) from error


def _fill(
    folder: Path,
    models: Mapping[str, Path],
    timed: Sequence[Feeds],
    checked: Iterable[Feeds],
    *,
    threads: int,
    seconds: float,
    epochs: int,
    seed: int,
    provider: str,
    heat: Mapping[str, float],
) -> None:
    stored: dict[str, np.ndarray] = {}
    expected: dict[str, np.ndarray] = {}
    inputs: list[str] = []
    count = 0
    sessions = [Session(path, Runtime(threads=threads)) for path in models.values()]
    for number, feeds in enumerate(chain(timed, checked)):
        inputs, count = list(feeds), number + 1
        stored |= {f"{number}/{name}": np.asarray(array) for name, array in feeds.items()}
        for index, session in enumerate(sessions):
            outputs = session.named(feeds).items()
            expected |= {f"{index}/{number}/{name}": v for name, v in outputs if isinstance(v, np.ndarray)}
    job = {
        "format": FORMAT,
        "models": [_copied(name, path, folder / "models" / str(i)) for i, (name, path) in enumerate(models.items())],
        "inputs": inputs,
        "batches": count,
        "timed": len(timed),
        "batch_size": len(next(iter(timed[0].values()))) if inputs and np.ndim(next(iter(timed[0].values()))) else 1,
        "threads": threads,
        "seconds": seconds,
        "epochs": epochs,
        "seed": seed,
        "provider": provider,
        **heat,
    }
    np.savez_compressed(folder / "samples.npz", **stored)  # type: ignore[arg-type]
    np.savez_compressed(folder / "expected.npz", **expected)  # type: ignore[arg-type]
    model_file.atomic_write_text(folder / RUNNER, runner_source(), overwrite=True)
    model_file.atomic_write_text(folder / "README.txt", ABOUT, overwrite=True)
    model_file.atomic_write_text(folder / JOB, json.dumps(job, indent=1) + "\n", overwrite=True)


def runner_source() -> str:
    """Return the Python file that runs a kit: the runner, after the modules of this package that it imports."""
    sources = [files(package).joinpath(f"{name}.py").read_text(encoding="utf-8") for package, name in INLINED]
    lines = "\n\n".join(sources).splitlines()
    return "\n".join(line for line in lines if not line.startswith("from onnxopt.")) + "\n"


def _copied(name: str, path: Path, folder: Path) -> dict[str, object]:
    """Copy a model and its external data; the data keeps the name by which the model refers to it."""
    folder.mkdir(parents=True)
    size = 0
    for source in (path, *external_files(path)):
        place = folder / source.relative_to(path.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        size += place.stat().st_size
    return {"name": name, "file": f"models/{folder.name}/{path.name}", "size_bytes": size}
