"""ONNX protobuf <-> onnx-ir, for every file the checker accepts."""

import base64

import onnx
import onnx_ir as ir

_TYPE_KEY = "onnxopt.value_type"


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Convert a protobuf model; map types (from scikit-learn's ZipMap), which onnx-ir cannot hold, travel as text."""
    for value in (*proto.graph.output, *proto.graph.value_info):
        if _holds_map(value.type):
            entry = value.metadata_props.add()
            entry.key, entry.value = _TYPE_KEY, base64.b64encode(value.type.SerializeToString()).decode()
            value.ClearField("type")
    return ir.from_proto(proto)


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Convert to protobuf with all weights embedded."""
    if any(isinstance(v.const_value, ir.ExternalTensor) for v in model.graph.initializers.values()):
        model = model.clone()
        ir.external_data.load_to_model(model)
    proto: onnx.ModelProto = ir.to_proto(model)
    for value in (*proto.graph.output, *proto.graph.value_info):
        for entry in [e for e in value.metadata_props if e.key == _TYPE_KEY]:
            value.type.ParseFromString(base64.b64decode(entry.value))
            value.metadata_props.remove(entry)
    return proto


def _holds_map(kind: onnx.TypeProto) -> bool:
    return kind.HasField("map_type") or (kind.HasField("sequence_type") and _holds_map(kind.sequence_type.elem_type))
