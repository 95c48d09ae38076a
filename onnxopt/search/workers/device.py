"""Latency on another device: the baseline and candidates go there as a kit; everything else stays here."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import NativeError
from onnxopt.measure.device.kit import write_kit
from onnxopt.measure.device.place import place_of
from onnxopt.measure.device.result import DeviceResult, read_result
from onnxopt.measure.device.ssh import Device, require_packages, run_on_board
from onnxopt.measure.latency import Latency
from onnxopt.search.workers.runner import LOST, TaskInputs
from onnxopt.target import Target, features_of_cpuinfo, target_with

CHECKED = 32
"""Number of search samples whose predictions are compared with this machine's."""

COOL_DOWN_S = 300.0
"""Longest wait for the device to cool down: measurements before this one have warmed it."""


def target_on(address: str) -> Target:
    """Return the target of the processor at an address.

    Raises:
        UsageError: ONX101 the address cannot be read, ONX108 the OpenSSH client is not installed.
        NativeError: ONX404 the device cannot be reached, ONX405 its Python lacks a package.
    """
    machine, _, cpuinfo = require_packages(place_of(address)).partition("\n")
    return target_with(machine.strip().lower(), features_of_cpuinfo(cpuinfo))


class DeviceTimer:
    """Times models on the device at `address`.

    Args:
        address: see `onnxopt.measure.device.place.place_of`.
        work: inputs for timing.

    Attributes:
        results: the newest result of each model with alternating inputs, by its name.

    Raises:
        UsageError: ONX101 the address cannot be read, ONX108 the OpenSSH client is not installed.
        NativeError: ONX404 the device cannot be reached, ONX405 its Python lacks a package.
    """

    def __init__(self, address: str, work: TaskInputs) -> None:
        self._place, self._work = place_of(address), work
        self.results: dict[str, DeviceResult] = {}
        require_packages(self._place)

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Return the latency of models in alternating runs there, the baseline first.

        Raises:
            NativeError: ONX405 a model failed there, ONX407 the device cannot be reached any more.
        """
        work, place = self._work, self._place
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
            files = {
                name: _saved(model, Path(folder) / str(index)) for index, (name, model) in enumerate(models.items())
            }
            kit = write_kit(
                files,
                (work.hot,) if hot else work.inputs,
                work.search.take(CHECKED),
                Path(folder) / "kit",
                threads=work.runtime.threads,
                seconds=seconds,
                seed=work.seed,
                provider=place.provider,
                max_celsius=place.max_celsius,
                cool_down_s=COOL_DOWN_S,
            )
            result = read_result(_run(kit, place))
        if result.refused:
            raise NativeError("ONX405", "the device cannot time models", where=place.host, why=result.refused)
        if not hot:
            self.results |= dict.fromkeys(models, result)
        return {model.name: model.latency for model in result.models if model.latency is not None}

    def words(self, name: str) -> str:
        """Return a sentence on the origin of the figures of a model: which are from here, and which from the device."""
        found = self.results[name]
        own = next(model for model in found.models if model.name == name)
        agree = f", where {own.same_class} of {own.classified} predictions are those of this machine"
        return (
            f"latency was measured on {self._place.host}{agree if own.classified else ''}; "
            "accuracy and size on this machine"
        )


def _saved(model: ir.Model, folder: Path) -> Path:
    folder.mkdir()
    return model_file.save(model, folder / "model.onnx")[0]


def _run(kit: Path, place: Device) -> Path:
    try:
        return run_on_board(kit, place)
    except NativeError as error:
        if error.code != "ONX404":
            raise
        hint = "When it is back, go on with --resume."
        raise NativeError(LOST, "the device was lost", where=place.host, why=str(error), hint=hint) from error
