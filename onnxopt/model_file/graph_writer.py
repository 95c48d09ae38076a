"""A model as a protobuf, without descriptions of weights that say no more than the weights.

`ir.to_proto` writes one for each weight, and makes a store of notes for each value: a third of its time for a graph of
thousands of nodes, and millions of objects that live as long as the model.
"""

import copy
from collections.abc import Iterator

import onnx
import onnx_ir as ir
from onnx_ir import serde

_ANNOTATION = "quant_parameter_tensor_names"
"""Note under which `ir` keeps the quantization annotation of a value."""


def is_plain(model: ir.Model) -> bool:
    """Return whether `plain_proto` writes the model: it has no functions, annotations or weights without numbers."""
    if model.functions or any(value.const_value is None for value in model.graph.initializers.values()):
        return False
    return not any(map(_is_annotated, _values(model.graph)))


def plain_proto(model: ir.Model) -> onnx.ModelProto:
    """Return the protobuf of a plain model; descriptions of weights in subgraphs are in it."""
    proto, hull, graph = onnx.ModelProto(), copy.copy(model), model.graph
    hull.graph = ir.GraphView((), (), nodes=(), opset_imports=graph.opset_imports)  # type: ignore[assignment]
    serde.serialize_model_into(proto, hull)
    _write(proto.graph, graph, model.ir_version)
    return proto


def _write(proto: onnx.GraphProto, graph: ir.Graph, ir_version: int) -> None:
    """Write a graph as `serde.serialize_graph_into` does, apart from descriptions."""
    if graph.name:
        proto.name = graph.name
    if graph.doc_string:
        proto.doc_string = graph.doc_string
    for value in graph.inputs:
        serde.serialize_value_into(proto.input.add(), value)
    _write_weights(proto, graph)
    for node in graph:
        serde.serialize_node_into(proto.node.add(), node, model_ir_version=ir_version)
        for value in (v for v in node.outputs if v.name and not v.is_graph_output() and _is_described(v)):
            serde.serialize_value_into(proto.value_info.add(), value)
    for value in graph.outputs:
        serde.serialize_value_into(proto.output.add(), value)
    for key in sorted(graph.metadata_props):
        proto.metadata_props.add(key=key, value=graph.metadata_props[key])


def _write_weights(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    inputs = {value.name for value in graph.inputs}
    for value in graph.initializers.values():
        if (value.doc_string or value.metadata_props) and value.name not in inputs:
            serde.serialize_value_into(proto.value_info.add(), value)
        if (tensor := value.const_value) is not None:
            tensor.name = value.name
            serde.serialize_tensor_into(proto.initializer.add(), tensor)


def _is_described(value: ir.Value) -> bool:
    return value.type is not None or value.shape is not None or bool(value.doc_string or value.metadata_props)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    yield from graph.outputs
    yield from (value for node in graph for value in node.outputs)


def _is_annotated(value: ir.Value) -> bool:
    # The property makes a store where there is none, one of four objects for each value.
    store = value._metadata if hasattr(value, "_metadata") else value.meta
    return store is not None and bool(store.get(_ANNOTATION))
