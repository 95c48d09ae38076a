"""A model in the form that the runtime's quantizer takes, converted to protobuf once for several quantizations."""

from collections.abc import Collection

import onnx
import onnx_ir as ir

from onnxopt.model_file import to_proto
from onnxopt.model_file.heap import trim_heap
from onnxopt.model_file.memory import IN_MEMORY_BYTES, weight_bytes

_INFERRED = ("onnx.infer", "onnxruntime.quant")
"""Metadata by which the runtime's quantizer knows that types were inferred."""


class Ready:
    """A model whose values have types.

    Args:
        model: the model, which must not change any more.
        ranges: names of the tensors with a range: those of unknown type are made float.

    Attributes:
        model: the model.
    """

    def __init__(self, model: ir.Model, ranges: Collection[str] = ()) -> None:
        for value in (v for node in model.graph for v in node.outputs if v.dtype is None and v.name in ranges):
            value.type = ir.TensorType(ir.DataType.FLOAT)  # the runtime's own types; only floats have ranges
        self.model, self._data = model, b""

    def proto(self) -> onnx.ModelProto:
        """Return a new protobuf; the runtime, which sees that types are known, does not infer them again.

        It would do so by way of the disk, with two further copies of all weights.
        """
        if self._data:
            return onnx.load_model_from_string(self._data)
        trim_heap()
        proto = to_proto(self.model)
        if not any(entry.key == _INFERRED[0] for entry in proto.metadata_props):
            proto.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
        if weight_bytes(self.model) <= IN_MEMORY_BYTES:  # else they would be one more copy of the weights
            self._data = proto.SerializeToString()
        return proto
