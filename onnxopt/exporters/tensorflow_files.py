"""TensorFlow's SavedModel folders and TFLite files: `tf2onnx`."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.child import child_environment
from onnxopt.errors import ModelError, UsageError
from onnxopt.exporters.converted import Converted, Outputs, Wanted, arrays_of, made_up_input, with_weights_in_memory
from onnxopt.exporters.packages import require, versions
from onnxopt.model_file import signature_of
from onnxopt.samples import Feeds

EXTRA = "tensorflow"
SIGNATURE = "serving_default"


def convert_saved_model(folder: Path, wanted: Wanted) -> Converted:
    """Export the default signature of a SavedModel.

    Raises:
        UsageError: ONX101 it has no default signature, ONX108 a package is missing, ONX112 a fixed batch is requested.
        ModelError: ONX311 tf2onnx failed.
    """
    _open_batch_only(wanted)
    tensorflow = require("tensorflow", EXTRA)
    loaded = tensorflow.saved_model.load(str(folder))
    if SIGNATURE not in loaded.signatures:
        have = ", ".join(loaded.signatures) or "none"
        raise UsageError("ONX101", f"there is no signature {SIGNATURE}", where=str(folder), why=f"it has {have}")
    function = loaded.signatures[SIGNATURE]
    specs = function.structured_input_signature[1]
    model = _tf2onnx(["--saved-model", str(folder), "--signature_def", SIGNATURE], wanted)
    inputs = signature_of(model).inputs
    named = {spec.name: spec.name.removesuffix(":0").removeprefix(f"{SIGNATURE}_") for spec in inputs}
    made = {
        name: made_up_input(list(specs[key].shape), specs[key].dtype.as_numpy_dtype().dtype.name, wanted.seed)
        for name, key in named.items()
    }
    outputs = [spec.name for spec in signature_of(model).outputs]

    def run(feeds: Feeds) -> Outputs:
        found = function(**{named[name]: tensorflow.constant(array) for name, array in feeds.items()})
        return [found[name].numpy() for name in outputs]

    return _converted(f"tf2onnx ({SIGNATURE})", model, made, run, wanted)


def convert_tflite(file: Path, wanted: Wanted) -> Converted:
    """Export a TFLite file; its batch size is that of the file.

    Raises:
        UsageError: ONX108 a package is missing.
        ModelError: ONX311 tf2onnx failed.
    """
    interpreter = _interpreter(file)
    model = _tf2onnx(["--tflite", str(file)], wanted)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    made = {i["name"]: made_up_input(list(i["shape"]), np.dtype(i["dtype"]).name, wanted.seed) for i in inputs}

    def run(feeds: Feeds) -> Outputs:
        for details in inputs:
            interpreter.resize_tensor_input(details["index"], feeds[details["name"]].shape)
        interpreter.allocate_tensors()
        for details in inputs:
            interpreter.set_tensor(details["index"], feeds[details["name"]])
        interpreter.invoke()
        return [interpreter.get_tensor(details["index"]) for details in outputs]

    return _converted("tf2onnx (TFLite)", model, made, run, wanted)


def _converted(
    exporter: str, model: ir.Model, made: dict[str, np.ndarray], run: Callable[[Feeds], Outputs], wanted: Wanted
) -> Converted:
    example = made if wanted.inputs is None else dict(zip(made, arrays_of(wanted.inputs), strict=True))
    packages = versions("tensorflow", "tensorflow-cpu", "ai-edge-litert", "tf2onnx")
    return Converted(exporter, model, example, run, packages)


def _tf2onnx(source: Sequence[str], wanted: Wanted) -> ir.Model:
    """Call tf2onnx as its documentation says: from the command line."""
    require("tf2onnx", EXTRA)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model.onnx"
        opset = [] if wanted.opset is None else ["--opset", str(wanted.opset)]
        command = [sys.executable, "-m", "tf2onnx.convert", *source, "--output", str(path), *opset]
        done = subprocess.run(command, capture_output=True, check=False, text=True, env=child_environment())
        if done.returncode or not path.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ModelError(
                "ONX311",
                "the exporter failed",
                where="tf2onnx",
                why=lines[-1][:300] if lines else "it printed no message",
            )
        return with_weights_in_memory(path)


def _interpreter(file: Path) -> Any:
    """Return TensorFlow's own interpreter, or that of its successor package."""
    try:
        return require("ai_edge_litert.interpreter", EXTRA).Interpreter(model_path=str(file))
    except UsageError:
        return require("tensorflow", EXTRA).lite.Interpreter(model_path=str(file))


def _open_batch_only(wanted: Wanted) -> None:
    if not wanted.dynamic_batch:
        hint = "Leave --fixed-batch out; the sizes are those of the file."
        raise UsageError("ONX112", "the batch size cannot be fixed here", where="--fixed-batch", hint=hint)
