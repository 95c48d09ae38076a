"""A run of the model on the first sample, so that no samples are written on which it fails."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import MAPPED, Runtime, Session
from onnxopt.measure.runtime.written import ends
from onnxopt.model_file import fits_protobuf
from onnxopt.samples import Feeds, Samples
from onnxopt.samples.fit import Fitted
from onnxopt.samples.images import Images

_STEP = 32
"""Detectors halve an image five times, and take only sizes that this divides."""
_NODE_FAILED = "ONNXRuntimeError"
"""In messages of the runtime itself."""


def refuse_unrunnable(graph: ir.Model, samples: Samples) -> None:
    """Run the model once on the first sample; a model that cannot be loaded here may be for another runtime.

    Raises:
        NativeError: ONX401 it fails.
    """
    first = next(iter(samples.with_batch_size(1)), None)
    if first is None:
        return
    try:
        session = Session(graph, Runtime(optimization="none") if fits_protobuf(graph) else MAPPED)
    except ModelError:
        return
    try:
        ends(session, first)
    except NativeError as error:
        if _NODE_FAILED not in error.why:
            return  # Python cannot feed it, such as bfloat16; other programs can
        hint = _size_that_runs(session, samples, first) or error.hint
        raise NativeError("ONX401", "the model does not run on the first sample", why=error.why, hint=hint) from error


def _size_that_runs(session: Session, samples: Samples, first: Feeds) -> str:
    """Return a hint that names a size at which the model takes images; "" if they have no size of their own."""
    source = samples.source.source if isinstance(samples.source, Fitted) else samples.source
    if not isinstance(source, Images) or source.target.size is not None:
        return ""
    name, array = source.target.name, first[source.target.name]
    axes = (2, 3) if source.target.layout == "NCHW" else (1, 2)
    height, width = (array.shape[axis] for axis in axes)
    for size in _sizes(height, width):
        shape = list(array.shape)
        for axis, length in zip(axes, size, strict=True):
            shape[axis] = length
        try:
            ends(session, {**first, name: np.zeros(shape, array.dtype)})
        except NativeError:
            continue
        return (
            f"Images have their own size, here {height}x{width}. The model runs at {size[0]}x{size[1]}: add "
            f"--size {size[0]}x{size[1]}, or better the size that it was trained at."
        )
    return f"Images have their own size, here {height}x{width}: add --size with the one that the model was trained at."


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    for step in (_STEP, 2 * _STEP):
        yield max(round(height / step), 1) * step, max(round(width / step), 1) * step
