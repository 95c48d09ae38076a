"""ONNX protobuf <-> onnx-ir, for every file the checker accepts."""

import base64
from collections.abc import Iterator

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


def to_proto(model: ir.Model, *, embed: bool = True) -> onnx.ModelProto:
    """Convert to protobuf, with all weights embedded unless those in external files are to stay there."""
    if embed and any(isinstance(t, ir.ExternalTensor) for t in weights(model)):
        model = model.clone()
        ir.external_data.load_to_model(model)
    proto: onnx.ModelProto = ir.to_proto(model)
    for value in (*proto.graph.output, *proto.graph.value_info):
        for entry in [e for e in value.metadata_props if e.key == _TYPE_KEY]:
            value.type.ParseFromString(base64.b64decode(entry.value))
            value.metadata_props.remove(entry)
    return proto


def weights(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Return the tensors of all initializers, those of subgraphs included."""
    return (v.const_value for graph in model.graphs() for v in graph.initializers.values() if v.const_value is not None)


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Return the initializers of a graph and its subgraphs, and the tensors in attributes of their nodes."""
    yield from graph.initializer
    yield from attribute_tensors(graph)


def attribute_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Return the tensors in attributes of nodes, and all tensors of subgraphs."""
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from tensors_of(attribute.g)
        for inner in attribute.graphs:
            yield from tensors_of(inner)


def _holds_map(kind: onnx.TypeProto) -> bool:
    return kind.HasField("map_type") or (kind.HasField("sequence_type") and _holds_map(kind.sequence_type.elem_type))
