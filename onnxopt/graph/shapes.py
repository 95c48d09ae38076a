"""Types and shapes of values."""

import onnx
import onnx_ir as ir

from onnxopt.model_file import from_proto, to_proto


def with_types(model: ir.Model) -> ir.Model:
    """Return a copy of `model` whose values carry every type and shape that ONNX can infer; stale ones are dropped."""
    proto = to_proto(model)
    del proto.graph.value_info[:]
    return from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
