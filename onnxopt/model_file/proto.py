"""ONNX protobuf <-> onnx-ir, for every file the checker accepts."""

import base64
import math
from collections.abc import Collection, Iterator
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from onnxopt.model_file.graph_writer import is_plain, plain_proto
from onnxopt.model_file.heap import without_collections

_TYPE_KEY = "onnxopt.value_type"
_UNSIZED = (ir.DataType.UNDEFINED, ir.DataType.STRING)
_ITEM_BYTES = {int(kind): kind.itemsize for kind in ir.DataType if kind not in _UNSIZED}


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Convert a protobuf model; map types (from scikit-learn's ZipMap), which onnx-ir cannot hold, travel as text.

    Weights that state the usual place of their numbers, or an empty text about them, become like those that state none:
    a model has the same bytes wherever its weights are held.
    """
    for tensor in proto.graph.initializer:
        for field in ("data_location", "doc_string"):
            if tensor.HasField(field) and not getattr(tensor, field):
                tensor.ClearField(field)
    for value in (*proto.graph.output, *proto.graph.value_info):
        if _holds_map(value.type):
            entry = value.metadata_props.add()
            entry.key, entry.value = _TYPE_KEY, base64.b64encode(value.type.SerializeToString()).decode()
            value.ClearField("type")
    with without_collections():
        return ir.from_proto(proto)


def to_proto(model: ir.Model, *, embed: bool = True) -> onnx.ModelProto:
    """Convert to protobuf, with all weights embedded unless those in external files are to stay there."""
    if embed and any(isinstance(t, ir.ExternalTensor) for t in weights(model)):
        model = model.clone()
        ir.external_data.load_to_model(model)
    with without_collections():
        plain = is_plain(model)
        proto: onnx.ModelProto = plain_proto(model) if plain else ir.to_proto(model)
    _describe_once(list(subgraphs(proto.graph)) if plain else [proto.graph])
    for value in (*proto.graph.output, *proto.graph.value_info):
        for entry in [e for e in value.metadata_props if e.key == _TYPE_KEY]:
            value.type.ParseFromString(base64.b64decode(entry.value))
            value.metadata_props.remove(entry)
    return proto


def to_tensor(tensor: ir.TensorProtocol, name: str) -> onnx.TensorProto:
    """Convert one tensor, which gets this name; a protobuf of the name is returned itself, not to be changed.

    The numbers of a tensor in a file are embedded.
    """
    if isinstance(tensor, ir.ExternalTensor):
        tensor = ir.tensor(tensor.numpy(), dtype=tensor.dtype)
    made: onnx.TensorProto = tensor.raw if isinstance(tensor, ir.serde.TensorProtoTensor) else ir.to_proto(tensor)
    if made.name == name:
        return made
    renamed = onnx.TensorProto()
    renamed.CopyFrom(made)
    renamed.name = name
    return renamed


def _describe_once(waiting: list[onnx.GraphProto]) -> None:
    """Drop the descriptions of weights of these graphs that say no more than the weights: up to 6 % of a small file."""
    while waiting:
        body = waiting.pop()
        waiting += subgraphs(body)
        own = {tensor.name for tensor in body.initializer}
        kept = [v for v in body.value_info if v.name not in own or v.doc_string or v.metadata_props]
        if len(kept) < len(body.value_info):
            del body.value_info[:]
            body.value_info.extend(kept)


def weights(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Return the tensors of all initializers, those of subgraphs included.

    `ir.Model.graphs` makes several iterators for each node, which takes seconds for thousands of nodes.
    """
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
        attributes = (a for node in graph if node.attributes for a in node.attributes.values() if not a.is_ref())
        for attribute in attributes:
            if attribute.type is ir.AttributeType.GRAPH:
                waiting.append(attribute.as_graph())
            elif attribute.type is ir.AttributeType.GRAPHS:
                waiting += attribute.as_graphs()


def bytes_of(tensor: ir.TensorProtocol) -> int:
    """Return the bytes of a tensor's numbers; `nbytes` of one in a protobuf makes an object for its shape each time."""
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        return math.ceil(math.prod(tensor.raw.dims) * _ITEM_BYTES[tensor.raw.data_type])
    return tensor.nbytes


_HOLDERS = (
    onnx.ModelProto,
    onnx.GraphProto,
    onnx.NodeProto,
    onnx.AttributeProto,
    onnx.FunctionProto,
    onnx.TrainingInfoProto,
    onnx.SparseTensorProto,
)


def stored_tensors(proto: Message) -> Iterator[onnx.TensorProto]:
    """Return every tensor inside a message, whichever field of whichever part holds it.

    The walk follows the fields that are set, not a list of places: graphs, functions, training information, sparse
    tensors and attributes of every kind are all reached.
    """
    return (part for part in messages_of(proto, _HOLDERS) if isinstance(part, onnx.TensorProto))


def messages_of(proto: Message, opened: tuple[type[Message], ...] = (Message,)) -> Iterator[Message]:
    """Return every message inside a message, in order; of those it enters, `opened` are the kinds."""
    waiting: list[Message] = [proto]
    while waiting:
        message = waiting.pop()
        inner: list[Message] = []
        for field, value in message.ListFields():
            if field.message_type is not None:
                inner += [value] if isinstance(value, Message) else value
        yield from inner
        waiting += reversed([part for part in inner if isinstance(part, opened)])


def _holds_map(kind: onnx.TypeProto) -> bool:
    return kind.HasField("map_type") or (kind.HasField("sequence_type") and _holds_map(kind.sequence_type.elem_type))


def damaged_names(proto: Message) -> Iterator[bytes]:
    """Return the texts in a message that are not UTF-8: protobuf gives those as bytes. Comments do not count."""
    for message in (proto, *messages_of(proto)):
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING and field.name != "doc_string":
                yield from (
                    text for text in ([value] if isinstance(value, str | bytes) else value) if isinstance(text, bytes)
                )


def missing_values(graph: onnx.GraphProto, outer: set[str] | None = None) -> Iterator[str]:
    """Return the values that nodes of a graph and its subgraphs read, or outputs name, and that nothing computes.

    Args:
        graph: the graph.
        outer: the values around it; it holds those of the graph too in the meantime, because a copy for each of
            thousands of subgraphs takes minutes.
    """
    known = set[str]() if outer is None else outer
    own = {value.name for some in (graph.input, graph.initializer) for value in some}
    own |= {sparse.values.name for sparse in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output if name}
    own -= known
    known |= own
    read = [name for node in graph.node for name in node.input if name]
    yield from (name for name in (*read, *(value.name for value in graph.output)) if name not in known)
    for inner in subgraphs(graph):
        yield from missing_values(inner, known)
    known -= own


def subgraphs(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto]:
    """Return the graphs that the nodes of a graph or function hold, one level down."""
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def remove_parts(messages: Any, removed: Collection[Any]) -> None:
    """Remove messages from a repeated field; by identity, because comparing each with all others takes minutes.

    They go to its end first: each removal from the middle moves all that follow.
    """
    if not removed:
        return
    held = list(messages)  # protobuf gives one object per part while it is held
    identities = {id(message) for message in removed}
    kept = sum(id(message) not in identities for message in held)
    messages.sort(key=lambda message: id(message) in identities)
    del messages[kept:]
