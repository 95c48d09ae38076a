"""Keras 3: `model.export(format="onnx")`, on whichever backend Keras runs."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import UsageError
from onnxopt.exporters.converted import (
    Converted,
    Outputs,
    Wanted,
    arrays_of,
    flat,
    made_up_input,
    with_weights_in_memory,
)
from onnxopt.exporters.packages import require, versions
from onnxopt.model_file import signature_of
from onnxopt.samples import Feeds

EXTRA = "keras"


def convert(source: Any, wanted: Wanted) -> Converted:
    """Export a `keras.Model`, or the `.keras` or `.h5` file of one.

    Raises:
        UsageError: ONX108 a package is missing, ONX112 a fixed batch size is requested.
    """
    keras = require("keras", EXTRA)
    if not wanted.dynamic_batch:
        hint = "Leave --fixed-batch out; the batch axis of a Keras model is open."
        raise UsageError("ONX112", "Keras exports an open batch axis only", where="--fixed-batch", hint=hint)
    model = keras.saving.load_model(source) if isinstance(source, Path) else source
    if wanted.inputs is None:
        given = [made_up_input(i.shape, keras.backend.standardize_dtype(i.dtype), wanted.seed) for i in model.inputs]
    else:
        given = list(arrays_of(wanted.inputs))

    def called(values: list[np.ndarray]) -> list[np.ndarray]:
        found = model(values[0] if len(values) == 1 else values, training=False)
        return [np.asarray(keras.ops.convert_to_numpy(value)) for value in flat(found)]

    called(given)  # Keras exports no model that has never been called
    options = {} if wanted.opset is None else {"opset_version": wanted.opset}
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model.onnx"
        model.export(path, format="onnx", verbose=False, **options)
        graph = with_weights_in_memory(path)
    names = [spec.name for spec in signature_of(graph).inputs]

    def run(feeds: Feeds) -> Outputs:
        return called([feeds[name] for name in names])

    backend = keras.backend.backend()
    made = versions("keras", "tensorflow", "tensorflow-cpu", "torch", "tf2onnx", "onnxscript")
    return Converted(f"Keras on {backend}", graph, dict(zip(names, given, strict=True)), run, made)
