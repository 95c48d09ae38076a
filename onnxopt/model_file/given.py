"""A model as people have it: a path, an ONNX protobuf, or an onnx-ir model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxopt.errors import UsageError
from onnxopt.model_file.load import from_memory, load

Given = str | Path | ir.Model | onnx.ModelProto
"""A model, as the public functions take it."""
Several = Given | Sequence[Given] | Mapping[str, Given]
"""One model, several, or several by name."""


def given(model: Given) -> Path | ir.Model:
    """Return a path or an onnx-ir model; a protobuf is converted (not modified).

    Raises:
        UsageError: ONX101 it is nothing of the kind.
        ModelError: ONX301 a protobuf holds no whole graph, ONX302 it is too old or too new.
    """
    if isinstance(model, ir.Model):
        return model
    if isinstance(model, str | Path):
        return Path(model)
    if isinstance(model, onnx.ModelProto):
        return from_memory(model)
    raise UsageError(
        "ONX101",
        "this is not a model",
        where=type(model).__name__,
        hint="Give a path, an onnx.ModelProto or an onnx_ir.Model; for other frameworks see onnxopt.export.",
    )


def name_of_given(model: Given, otherwise: str) -> str:
    """Return the path as the user gave it, or `otherwise` for a model in memory."""
    return str(model) if isinstance(model, str | Path) else otherwise


def by_name(models: Several) -> dict[str, Given]:
    """Return models by name: as given, or the path, or `model` in memory; a name that comes again gets a number."""
    if isinstance(models, Mapping):
        return dict(models)
    several = [models] if isinstance(models, str) or not isinstance(models, Sequence) else models
    found: dict[str, Given] = {}
    for model in several:
        said = name = name_of_given(model, "model")
        times = 1
        while name in found:
            times += 1
            name = f"{said} ({times})"
        found[name] = model
    return found


def as_graph(model: Given) -> ir.Model:
    """Return the model itself, read from its file where a path is given; raises like `given` and `load`."""
    found = given(model)
    return found if isinstance(found, ir.Model) else load(found)
