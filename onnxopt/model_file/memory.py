"""A model in memory: its size, its validity, its bytes for ONNX Runtime."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from onnxopt.errors import ModelError, first_line
from onnxopt.model_file.proto import to_proto

EXTERNAL_ABOVE_BYTES = 1_500_000_000
"""Protobuf ends at 2 GiB; stay well below."""


def weight_bytes(model: ir.Model) -> int:
    """Return the bytes of all initializers of the main graph and its subgraphs."""
    graphs = [model.graph, *model.graph.subgraphs()]
    values = {id(v): v for g in graphs for v in g.initializers.values()}.values()
    return sum(v.const_value.nbytes for v in values if v.const_value is not None)


def size_bytes(model: ir.Model) -> int:
    """Return how large the model is on disk, external data included."""
    weights = weight_bytes(model)
    return weights if weights > EXTERNAL_ABOVE_BYTES else len(to_bytes(model))


def to_bytes(model: ir.Model) -> bytes:
    """Serialize a model below the protobuf limit; external weights are embedded."""
    return to_proto(model).SerializeToString(deterministic=True)


@contextmanager
def materialize(model: ir.Model) -> Iterator[bytes | str]:
    """Give ONNX Runtime something to open: the bytes, or for a model too large for those a temporary file's path."""
    if weight_bytes(model) <= EXTERNAL_ABOVE_BYTES:
        yield to_bytes(model)
        return
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="model.onnx.data")
        yield str(path)


def check(model: ir.Model) -> None:
    """Check the model with the ONNX checker.

    Raises:
        ModelError: ONX305, with the checker's first line.
    """
    try:
        if weight_bytes(model) > EXTERNAL_ABOVE_BYTES:
            with materialize(model) as path:
                onnx.checker.check_model(path)
        else:
            onnx.checker.check_model(to_proto(model))
    except onnx.checker.ValidationError as error:
        raise ModelError("ONX305", "the model is invalid", why=first_line(error)) from error


def flush_denormals(model: ir.Model) -> int:
    """Set denormal weights to zero in place of the tensors; return how many.

    Denormals slow a convolution several-fold and carry no information.
    """
    flushed = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            continue
        array = tensor.numpy()
        tiny = np.finfo(array.dtype).tiny
        denormal = (np.abs(array) < tiny) & (array != 0)
        count = int(np.count_nonzero(denormal))
        if count:
            value.const_value = ir.tensor(np.where(denormal, array.dtype.type(0), array), name=value.name)
            flushed += count
    return flushed
