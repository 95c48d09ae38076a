"""A serialized model in pieces, so that beside the model one large weight at a time is in memory, and never all."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from onnxopt.model_file.proto import bytes_of, to_proto

LARGE_BYTES = 1 << 20
"""Each weight above this is a separate piece."""

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_WEIGHTS = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_PREFIXED = 2
"""Wire type of the fields whose content follows its length."""


def pieces(model: ir.Model) -> Iterator[bytes]:
    """Yield the bytes of a model below the protobuf limit, weights in external files embedded.

    Joined, they are the bytes of the protobuf as `SerializeToString(deterministic=True)` gives them.
    """
    for part in _laid_out(model):
        if isinstance(part, bytes):
            yield part
        else:
            yield from _weight(*part)


def _laid_out(model: ir.Model) -> Iterator[bytes | tuple[str, ir.TensorProtocol]]:
    """Yield the bytes of a model, and in their places the large weights with their names."""
    large = large_weights(model)
    if not large:
        yield to_proto(model).SerializeToString(deterministic=True)
        return
    proto = to_proto(_emptied(model, large))
    graph = onnx.GraphProto()
    graph.CopyFrom(proto.graph)
    proto.ClearField("graph")
    small = [(weight.name, weight.SerializeToString(deterministic=True)) for weight in graph.initializer]
    graph.ClearField("initializer")
    begin, end = _around(graph, _WEIGHTS)
    sizes = {name: _weight_size(name, tensor) for name, tensor in large.items()}
    inside = sum(_field_size(sizes.get(name, len(data))) for name, data in small)
    before, behind = _around(proto, _GRAPH)
    yield before + _prefix(_GRAPH, len(begin) + inside + len(end)) + begin
    for name, data in small:
        yield _prefix(_WEIGHTS, sizes.get(name, len(data)))
        if name in large:
            yield name, large[name]
        else:
            yield data
    yield end + behind


def to_bytes(model: ir.Model) -> bytes:
    """Serialize a model below the protobuf limit; external weights are embedded."""
    joined = io.BytesIO()
    for piece in pieces(model):
        joined.write(piece)
    return joined.getvalue()


def digest(model: ir.Model) -> str:
    """Return the SHA-256 of `to_bytes`."""
    found = hashlib.sha256()
    for piece in pieces(model):
        found.update(piece)
    return found.hexdigest()


def serialized_size(model: ir.Model) -> int:
    """Return the length of `to_bytes`; the numbers of large weights are not read."""
    return sum(len(part) if isinstance(part, bytes) else _weight_size(*part) for part in _laid_out(model))


def write(model: ir.Model, path: Path) -> None:
    """Write what `to_bytes` returns."""
    with path.open("wb") as file:
        file.writelines(pieces(model))


def large_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Return the weights of the main graph above `LARGE_BYTES`, by name."""
    found = ((name, value.const_value) for name, value in model.graph.initializers.items())
    return {name: tensor for name, tensor in found if tensor is not None and _is_large(tensor)}


def _is_large(tensor: ir.TensorProtocol) -> bool:
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        # Numbers one by one, parts of tensors, and notes that are added on the way, are written as they are.
        raw = tensor.raw
        whole = raw.HasField("raw_data") and not raw.HasField("segment") and not raw.external_data
        return bytes_of(tensor) > LARGE_BYTES and whole and not tensor.metadata_props
    return tensor.dtype is not ir.DataType.STRING and tensor.nbytes > LARGE_BYTES


def _emptied(model: ir.Model, large: dict[str, ir.TensorProtocol]) -> ir.Model:
    """Return a copy with an empty tensor in the place of each large weight; types and shapes stay."""
    light = model.clone()
    for name in large:
        light.graph.initializers[name].const_value = ir.tensor([0], name=name)
    return light


def _weight(name: str, tensor: ir.TensorProtocol) -> Iterator[bytes]:
    """Yield a tensor's message: what comes before its numbers, the numbers, and what comes behind."""
    before, behind = _around(_head(name, tensor), _DATA)
    data = tensor.raw.raw_data if isinstance(tensor, ir.serde.TensorProtoTensor) else tensor.tobytes()
    yield before + _prefix(_DATA, len(data))
    yield data
    yield behind


def _weight_size(name: str, tensor: ir.TensorProtocol) -> int:
    """Return the length of `_weight`, without a copy of the numbers, which may be computed or lie in a file."""
    size = bytes_of(tensor)
    return _head(name, tensor).ByteSize() + len(_prefix(_DATA, size)) + size


def _head(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    """Return a tensor's message without its numbers."""
    head = onnx.TensorProto()
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        raw = tensor.raw
        head.data_type, head.dims[:] = raw.data_type, raw.dims
        head.metadata_props.extend(raw.metadata_props)
        if raw.HasField("doc_string"):
            head.doc_string = raw.doc_string
        if raw.HasField("data_location"):
            head.data_location = raw.data_location
        head.name = name
        return head
    head.name, head.data_type = name, tensor.dtype.value
    head.dims.extend(tensor.shape.numpy())
    if not isinstance(tensor, ir.ExternalTensor):
        if tensor.doc_string:
            head.doc_string = tensor.doc_string
        for key, text in tensor.metadata_props.items():
            head.metadata_props.add(key=key, value=text)
    return head


def _around(message: Message, number: int) -> tuple[bytes, bytes]:
    """Serialize the fields of a message before a number, and those behind it; the one of that number is not set."""
    sides = []
    for before in (True, False):
        side = type(message)()
        side.CopyFrom(message)
        for field, _ in message.ListFields():
            if (field.number < number) is not before:
                side.ClearField(field.name)
        sides.append(side.SerializePartialToString(deterministic=True))
    return sides[0], sides[1]


def _prefix(number: int, size: int) -> bytes:
    """Return the bytes before the content of a field with a length."""
    return _varint(number << 3 | _PREFIXED) + _varint(size)


def _field_size(size: int) -> int:
    return len(_prefix(_WEIGHTS, size)) + size


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
