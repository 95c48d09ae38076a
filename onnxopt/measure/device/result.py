"""Result of a benchmark kit: checked and summarized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import DataError, FileError, first_line
from onnxopt.files import read_json
from onnxopt.measure.device.kit import FORMAT
from onnxopt.measure.latency import Latency
from onnxopt.measure.latency.estimate import FEWEST_CLEAN
from onnxopt.measure.latency.summary import MIN_EPOCHS, interval_of_ratio, interval_over, too_wide
from onnxopt.measure.runtime.environment import FLAGS

FEWEST_FOR_P99 = 459
"""Fewest runs that bound the 99 % quantile with 99 % confidence."""


@dataclass(frozen=True)
class DeviceModel:
    """One model on the device.

    Attributes:
        difference: largest difference of float outputs from those of the machine that made the kit, relative to each
            output's largest magnitude; None if shapes or types differ.
        same_class: number of predictions equal to those of that machine.
        classified: number of predictions; 0 if outputs are not classes.
        latency: the latency; None if its measurement was refused.
    """

    name: str
    sha256: str
    size_bytes: int
    difference: float | None
    same_class: int
    classified: int
    latency: Latency | None


@dataclass(frozen=True)
class DeviceResult:
    """A kit's result.

    Attributes:
        device: facts such as `cpu`, `architecture`, `isa`, `threads`, `governor`, `onnxruntime`.
        refused: the reason why latency was not measured; None if it was.
        celsius: temperatures before and after, of each zone that the system reports.
        throttled: share of runs while heat or low voltage slowed the processor down; None where the system does not
            report it.
    """

    device: dict[str, Any]
    models: tuple[DeviceModel, ...]
    refused: str | None
    celsius: dict[str, list[float]]
    throttled: float | None = None


def read_result(path: Path) -> DeviceResult:
    """Read the result.json of a kit.

    Raises:
        FileError: ONX501 the file does not exist, ONX505 it cannot be read.
        DataError: ONX201 the file is not the result of a kit.
    """
    try:
        content = read_json(path)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
        device = dict(content["device"])
        flags = set(device.pop("flags"))
        device["isa"] = [flag for flag in FLAGS if flag in flags]
        odd = [key for key, value in content["device"].items() if key != "flags" and isinstance(value, list | dict)]
        if odd:
            raise ValueError(f"{odd[0]} is neither text nor a number")
        refused = None if content["refused"] is None else str(content["refused"])
        celsius = {str(when): [float(value) for value in zones] for when, zones in content["celsius"].items()}
        models = tuple(_model(content, index) for index in range(len(content["models"])))
        return DeviceResult(device, models, refused, celsius, _throttled(content["epochs"]))
    except FileNotFoundError as error:
        raise FileError("ONX501", "the result does not exist", where=str(path), hint="Check the path.") from error
    except OSError as error:
        raise FileError("ONX505", "the result cannot be read", where=str(path), why=first_line(error)) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise DataError(
            "ONX201",
            "this is not the result of a kit",
            where=str(path),
            why=first_line(error),
            hint="Give the result.json that run.py wrote on the device.",
        ) from error


def _throttled(epochs: Sequence[Mapping[str, Any]]) -> float | None:
    known = [(float(e["throttled"]), _positive(e["runs"][0], "runs")) for e in epochs if e.get("throttled") is not None]
    if any(not 0 <= share <= 1 for share, _ in known):
        raise ValueError("a share of throttled runs lies in 0..1")
    return sum(share * runs for share, runs in known) / sum(runs for _, runs in known) if known else None


def _model(content: dict[str, Any], index: int) -> DeviceModel:
    model = content["models"][index]
    return DeviceModel(
        name=str(model["name"]),
        sha256=str(model["sha256"]),
        size_bytes=int(_positive(model["size_bytes"], "size_bytes")),
        difference=None if model["difference"] is None else float(model["difference"]),
        same_class=int(model["same_class"]),
        classified=int(model["classified"]),
        latency=_latency(content, index) if content["epochs"] else None,
    )


def _latency(content: dict[str, Any], index: int) -> Latency:
    def over_epochs(key: str, epochs: Sequence[Mapping[str, Any]] = content["epochs"]) -> list[float]:
        return [_positive(epoch[key][index], key) for epoch in epochs]

    epochs = [epoch for epoch in content["epochs"] if epoch.get("clean", FEWEST_CLEAN) >= FEWEST_CLEAN]
    enough = len(epochs) >= min(MIN_EPOCHS, len(content["epochs"]))
    usable = epochs if enough else content["epochs"]
    own = interval_over(over_epochs("p50_ms", usable))
    speedup = interval_of_ratio(over_epochs("speedup", usable)) if index else None
    unsure = (
        "" if enough else "other programs kept its threads waiting for a processor; stop them, or use fewer threads"
    )
    unsure = unsure or ("" if speedup is None else too_wide(speedup))
    waits = [float(epoch["waited"]) for epoch in content["epochs"] if epoch.get("waited") is not None]
    runs = int(sum(over_epochs("runs")))
    return Latency(
        p50_ms=own.value,
        p90_ms=float(np.median(over_epochs("p90_ms"))),
        p99_ms=float(np.median(over_epochs("p99_ms"))) if runs >= FEWEST_FOR_P99 else None,
        n=runs,
        first_run_ms=float(np.median(over_epochs("first_run_ms"))),
        load_ms=float(np.median(over_epochs("load_ms"))),
        speedup=None if unsure else speedup,
        peak_memory_bytes=None,
        batch_size=int(content["batch_size"]),
        p50_interval_ms=own,
        unsure=unsure,
        waited=float(np.mean(waits)) if waits else None,
        inputs=int(content.get("inputs", 1)),
    )


def _positive(value: Any, key: str) -> float:
    number = float(value)
    if not 0 < number < inf:
        raise ValueError(f"{key} is {number:g}")
    return number
