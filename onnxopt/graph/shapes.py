"""Types and shapes of values."""

import onnx
import onnx_ir as ir

from onnxopt.errors import ModelError, first_line
from onnxopt.model_file import from_proto, to_proto


def with_types(model: ir.Model) -> ir.Model:
    """Return a copy of `model` whose values carry every type and shape that ONNX can infer; stale ones are dropped.

    Raises:
        ModelError: ONX305 types in the model contradict each other.
    """
    proto = to_proto(model)
    del proto.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError("ONX305", "the model is invalid", why=first_line(error), hint="Export it again.") from error
    return from_proto(inferred)
