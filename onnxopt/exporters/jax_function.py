"""JAX and Flax: `jax2onnx`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxopt.exporters.converted import Converted, Outputs, Wanted, arrays_of, flat, needs_inputs
from onnxopt.exporters.packages import require, versions
from onnxopt.model_file import from_proto, signature_of
from onnxopt.samples import Feeds

EXTRA = "jax"


def convert(function: Callable[..., Any], wanted: Wanted) -> Converted:
    """Export a function of arrays, or a Flax NNX module in evaluation mode.

    Raises:
        UsageError: ONX108 a package is missing, ONX113 there are no example inputs.
    """
    exporter = require("jax2onnx", EXTRA)
    jax = require("jax", EXTRA)
    if wanted.inputs is None:
        raise needs_inputs("jax")
    arrays = arrays_of(wanted.inputs)
    first = ("B",) if wanted.dynamic_batch else ()
    shapes = [jax.ShapeDtypeStruct((*(first or a.shape[:1]), *a.shape[1:]), a.dtype) for a in arrays]
    options = {} if wanted.opset is None else {"opset": wanted.opset}
    proto = exporter.to_onnx(function, inputs=shapes, **options)
    model = from_proto(proto)
    names = [spec.name for spec in signature_of(model).inputs]

    def run(feeds: Feeds) -> Outputs:
        return [np.asarray(value) for value in flat(function(*(feeds[name] for name in names)))]

    made = versions("jax", "flax", "jax2onnx")
    return Converted("jax2onnx", model, dict(zip(names, arrays, strict=True)), run, made)
