"""Weights that two graphs have in common, held once."""

import numpy as np
import onnx_ir as ir

from onnxopt.model_file.proto import bytes_of

LEAST_BYTES = 4096
"""Smaller weights are not worth a look."""


def share_weights(model: ir.Model, *sources: ir.Model) -> None:
    """Give `model` the tensors of `sources` for large weights with the same name and the same bytes, in place.

    A graph that came back from the runtime or from a file holds copies of them.
    """
    for name, value in model.graph.initializers.items():
        own = value.const_value
        if own is None or own.dtype is ir.DataType.STRING or bytes_of(own) < LEAST_BYTES:
            continue
        known = (source.graph.initializers.get(name) for source in sources)
        tensors = (one.const_value for one in known if one is not None and one.const_value is not None)
        value.const_value = next((tensor for tensor in tensors if tensor is own or _equal(own, tensor)), own)


def _equal(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    mine, theirs = (np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8) for tensor in (one, other))
    return np.array_equal(mine, theirs)
