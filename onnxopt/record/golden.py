"""Golden outputs: a few samples with the outputs of best.onnx, for verification on another machine."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from onnxopt.errors import DataError, FileError, OnnxoptError, first_line
from onnxopt.measure.equivalence import difference
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.options.runtime import OPTIMIZATIONS, OptimizationLevel
from onnxopt.samples import Samples
from onnxopt.samples.archive import read_archive

MOST_SAMPLES, MOST_BYTES = 4, 1_000_000

FLOAT_TOLERANCE, QUANTIZED_TOLERANCE = 1e-3, 0.05
"""Largest accepted difference of an output, relative to its largest magnitude. Another processor adds floats in another
order; integer kernels also round and saturate differently (7-bit weights, VNNI, ARM)."""

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class Golden:
    """Inputs and outputs by name, per run; `note` is the reason for none, `optimization` the level used by the run."""

    runs: tuple[tuple[dict[str, np.ndarray], dict[str, np.ndarray]], ...]
    optimization: OptimizationLevel = "all"
    note: str = ""


def record_golden(model: Path, samples: Samples, optimization: OptimizationLevel) -> Golden:
    """Record up to 4 samples with their outputs on the CPU, as many as fit into 1 MB."""
    runs: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    used = 0
    try:
        session = Session(model, Runtime(optimization=optimization))
        for feeds in samples.take(MOST_SAMPLES).with_batch_size(1):
            outputs = session.named(feeds)
            arrays = (*feeds.values(), *outputs.values())
            if not all(map(_holds, arrays)):
                return Golden((), optimization, "an input or output is of a type that .npz files do not hold")
            used += sum(_text_at_fixed_width(array).nbytes for array in arrays)
            if used > MOST_BYTES:
                break
            runs.append((dict(feeds), outputs))
    except OnnxoptError as error:
        return Golden((), optimization, f"the model could not be run: {first_line(error)}")
    note = "" if runs else f"one sample with its outputs takes {used} bytes, more than {MOST_BYTES}"
    return Golden(tuple(runs), optimization, note)


def golden_bytes(golden: Golden) -> bytes:
    """Return the bytes of golden.npz: arrays `RUN/in/NAME` and `RUN/out/NAME`, `optimization` and `note`."""
    arrays = {"optimization": np.array(golden.optimization), "note": np.array(golden.note)}
    for number, (feeds, outputs) in enumerate(golden.runs):
        for kind, values in (("in", feeds), ("out", outputs)):
            arrays |= {f"{number}/{kind}/{name}": _text_at_fixed_width(value) for name, value in values.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_golden(path: Path) -> Golden:
    """Read golden.npz; nothing in it is executed.

    Raises:
        FileError: ONX505 the file is not golden.npz.
    """
    runs: dict[int, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
    try:
        file = read_archive(path)
        optimization, note = str(file["optimization"]), str(file["note"])
        for key, array in file.items():
            number, _, rest = key.partition("/")
            kind, _, name = rest.partition("/")
            if kind in ("in", "out"):
                pair = runs.setdefault(int(number), ({}, {}))
                pair[kind == "out"][name] = array.astype(object) if array.dtype.kind == "U" else array
    except DataError as error:
        raise FileError("ONX505", "no readable golden outputs", where=str(path), why=error.why or error.what) from error
    except (ValueError, KeyError) as error:
        raise FileError("ONX505", "no readable golden outputs", where=str(path), why=first_line(error)) from error
    if optimization not in OPTIMIZATIONS:
        raise FileError("ONX505", "no readable golden outputs", where=str(path), why=f"optimization {optimization!r}")
    return Golden(tuple(runs[number] for number in sorted(runs)), cast("OptimizationLevel", optimization), note)


def tolerance_of(model: ir.Model) -> float:
    """Return the largest accepted difference of the model's outputs on another machine."""
    quantized = any(node.op_type in _QUANTIZED for graph in model.graphs() for node in graph)
    return QUANTIZED_TOLERANCE if quantized else FLOAT_TOLERANCE


def differences(session: Session, golden: Golden) -> dict[str, float]:
    """Return, per output, the largest difference over all runs, relative to its largest magnitude in that run.

    Raises:
        NativeError: ONX401 a run failed.
    """
    worst: dict[str, float] = {}
    for feeds, expected in golden.runs:
        got = session.named(feeds)
        for name, array in expected.items():
            worst[name] = max(worst.get(name, 0.0), difference(array, got.get(name)))
    return worst


def _holds(value: Any) -> bool:
    """Return whether .npz files hold `value` without pickling."""
    if not isinstance(value, np.ndarray):
        return False
    return all(isinstance(item, str) for item in value.flat) if value.dtype.kind == "O" else value.dtype.isbuiltin == 1


def _text_at_fixed_width(array: np.ndarray) -> np.ndarray:
    return array.astype(str) if array.dtype.kind == "O" else array
