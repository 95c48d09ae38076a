"""The common request and result types of all exporters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.errors import UsageError
from onnxopt.model_file import load
from onnxopt.samples import Feeds

Outputs = Sequence[np.ndarray | None]
"""In graph order; None for an output of the graph that the source does not give."""


@dataclass(frozen=True)
class Wanted:
    """Options of an export.

    Attributes:
        inputs: example inputs: one array, several in order, or several by name; None where the source has one.
        exporter: `auto`, or one of several that a framework has.
        opset: version of the standard operator set; None for the exporter's own choice.
        dynamic_batch: whether the first axis of every input is left open.
        seed: the seed of synthetic inputs.
    """

    inputs: Any = None
    exporter: str = "auto"
    opset: int | None = None
    dynamic_batch: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Converted:
    """A model as a framework's own exporter wrote it, and the source to compare it with.

    Attributes:
        exporter: the exporter that made it.
        model: the exported graph.
        example: one batch, by the names of the graph's inputs.
        run: computes the source's own outputs.
        versions: the versions of the packages that took part.
        notes: notes for the user.
    """

    exporter: str
    model: ir.Model
    example: Feeds
    run: Callable[[Feeds], Outputs]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()


def arrays_of(inputs: Any) -> tuple[np.ndarray, ...]:
    """Return example inputs as numpy arrays, in order."""
    if isinstance(inputs, Mapping):
        return tuple(np.asarray(value) for value in inputs.values())
    if isinstance(inputs, tuple | list):
        return tuple(np.asarray(value) for value in inputs)
    return (np.asarray(inputs),)


def made_up_input(shape: Sequence[int | None], dtype: str, seed: int) -> np.ndarray:
    """Return an input of `shape`, open sizes being 2: standard normal floats, or whole numbers 0 and 1."""
    rng = np.random.RandomState(seed)
    sizes = [2 if size is None or size < 0 else size for size in shape]
    if np.dtype(dtype).kind == "f":
        return np.asarray(rng.standard_normal(sizes), dtype=dtype)
    return np.asarray(rng.randint(0, 2, size=sizes), dtype=dtype)


def needs_inputs(framework: str) -> UsageError:
    """Return the error for a source that does not state its inputs."""
    hint = "Let the function return (model, inputs), or give --inputs FILE.npz; in Python inputs=."
    return UsageError("ONX113", "example inputs are needed", where=framework, hint=hint)


def flat(outputs: Any) -> list[Any]:
    """Return the arrays in nested outputs, in order; None and plain numbers are no outputs."""
    if isinstance(outputs, Mapping):
        return [leaf for value in outputs.values() for leaf in flat(value)]
    if isinstance(outputs, tuple | list):
        return [leaf for value in outputs for leaf in flat(value)]
    return [outputs] if hasattr(outputs, "shape") else []


def with_weights_in_memory(path: Path) -> ir.Model:
    """Return the model at `path` with all weights in memory, because its folder is temporary."""
    model = load(path)
    ir.external_data.load_to_model(model)
    return model
