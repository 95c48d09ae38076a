"""Types and shapes of values."""

from math import isfinite

import onnx
import onnx_ir as ir

from onnxopt.errors import ModelError, first_line
from onnxopt.graph.edit import constant_of
from onnxopt.model_file import from_proto
from onnxopt.model_file.heap import without_collections
from onnxopt.model_file.light import give_weights_back, light_proto

MAX_COUNTED = 1 << 20
"""Longest constant `Range` that is inferred; a file of 300 bytes can ask for any length."""


def longest_range(model: ir.Model) -> int:
    """Return the length of the longest constant `Range` in `model`."""
    longest = 0
    for node in (n for n in model.graph.all_nodes() if n.op_type == "Range" and n.domain == ""):
        ends = [constant_of(value) for value in node.inputs]
        if len(ends) == 3 and all(end is not None and end.size == 1 for end in ends):
            start, limit, step = (float(end.numpy().reshape(())) for end in ends if end is not None)
            longest = max(longest, int((limit - start) / step) if step and isfinite(limit - start) else 0)
    return longest


@without_collections()
def with_types(model: ir.Model) -> ir.Model:
    """Return a copy of `model` with every type and shape that ONNX can infer; stale ones are removed.

    ONNX gets only the shapes of large weights; the copy shares their tensors with `model`.

    Raises:
        ModelError: ONX305 types in the model contradict each other.
    """
    proto, weights = light_proto(model)
    del proto.graph.value_info[:]
    # Data propagation computes constants one number at a time.
    propagated = longest_range(model) <= MAX_COUNTED
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=propagated)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError("ONX305", "the model is invalid", why=first_line(error), hint="Export it again.") from error
    typed = from_proto(inferred)
    give_weights_back(typed, model, weights)
    return typed
