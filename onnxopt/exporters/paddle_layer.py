"""Paddle: `paddle.onnx.export`, which calls paddle2onnx."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.exporters.converted import (
    Converted,
    Outputs,
    Wanted,
    arrays_of,
    flat,
    needs_inputs,
    with_weights_in_memory,
)
from onnxopt.exporters.packages import require, versions
from onnxopt.model_file import signature_of
from onnxopt.samples import Feeds

INSTALL = 'Run: pip install paddlepaddle paddle2onnx, then: pip install --no-deps "onnx>=1.18" ml_dtypes'
"""paddle2onnx asks for an older onnx than this package, and works with a newer one: no extra can say that."""


def convert(layer: Any, wanted: Wanted) -> Converted:
    """Export a `paddle.nn.Layer` in evaluation mode.

    Raises:
        UsageError: ONX108 a package is missing, ONX113 there are no example inputs.
    """
    paddle = require("paddle", "", INSTALL)
    require("paddle2onnx", "", INSTALL)
    if wanted.inputs is None:
        raise needs_inputs("paddle")
    arrays = arrays_of(wanted.inputs)
    first = [None] if wanted.dynamic_batch else []
    specs = [
        paddle.static.InputSpec([*(first or a.shape[:1]), *a.shape[1:]], a.dtype.name, f"input_{i}")
        for i, a in enumerate(arrays)
    ]
    layer.eval()
    options = {} if wanted.opset is None else {"opset_version": wanted.opset}
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model"
        paddle.onnx.export(layer, str(path), input_spec=specs, **options)
        model = with_weights_in_memory(path.with_suffix(".onnx"))
    names = [spec.name for spec in signature_of(model).inputs]

    def run(feeds: Feeds) -> Outputs:
        with paddle.no_grad():
            found = layer(*(paddle.to_tensor(feeds[name]) for name in names))
        return [np.asarray(value.numpy()) for value in flat(found)]

    made = versions("paddlepaddle", "paddle2onnx")
    return Converted("paddle2onnx", model, dict(zip(names, arrays, strict=True)), run, made)
