"""Where the weights of a search are held: those of two graphs once, large ones in a file without a name."""

import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnxopt.model_file.heap import drop_graphs
from onnxopt.model_file.memory import IN_MEMORY_BYTES, weight_bytes
from onnxopt.model_file.proto import bytes_of

LEAST_BYTES = 4096
"""Smaller weights are not worth a look."""

LEAST_STORED_BYTES = 1 << 16
"""Smaller tensors stay in memory."""

_PLAIN = frozenset({"name", "data_type", "dims", "doc_string", "metadata_props"})
"""Fields of a tensor's message that a tensor in a file keeps."""


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


class _WeightFile:
    """A file that nobody else can change, and that ends with the last tensor in it or with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="onnxopt-")  # noqa: SIM115  # open as long as its tensors live
        self._end, self._alone = 0, threading.Lock()

    def add(self, data: bytes) -> int:
        """Append bytes, and return their place."""
        place = self._end
        self._file.seek(place)
        self._file.write(data)
        self._end += len(data)
        return place

    def flush(self) -> None:
        self._file.flush()

    def read(self, place: int, size: int) -> bytes:
        """Return bytes from a place; a forked process reads beside this one, and the two share the file's position."""
        if not hasattr(os, "pread"):  # Windows, which does not fork
            with self._alone:
                self._file.seek(place)
                return self._file.read(size)
        parts = list[bytes]()
        while size and (some := os.pread(self._file.fileno(), size, place)):
            parts.append(some)
            place, size = place + len(some), size - len(some)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Numbers:
    """The numbers of a tensor, read each time that they are needed; of a protobuf they are copied each time."""

    def __init__(self, tensor: ir.TensorProtocol, file: _WeightFile) -> None:
        self._dtype, self._size, self._file = tensor.dtype.numpy().newbyteorder("<"), bytes_of(tensor), file
        self.shape = tuple(tensor.shape.numpy())
        proto = isinstance(tensor, ir.serde.TensorProtoTensor)
        self._place = file.add(tensor.raw.raw_data if proto else tensor.tobytes())

    def tobytes(self) -> bytes:
        """Return the numbers as little-endian bytes."""
        return self._file.read(self._place, self._size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the numbers, which cannot be changed."""
        found = np.frombuffer(self.tobytes(), self._dtype).reshape(self.shape)
        return found if dtype is None else found.astype(dtype)


def keep_on_disk(model: ir.Model) -> ir.Model:
    """Move the large weights of a large model from memory to a temporary file, in place, and return the model.

    Tensors that lie in a file already stay there. Those that are computed when they are read are computed now, one
    weight at a time, and never again. Without room for the file all stay as they are.
    """
    if weight_bytes(model) <= IN_MEMORY_BYTES:
        return model
    values = [value for graph in _graphs(model) for value in graph.initializers.values()]
    large = {id(value.const_value): value.const_value for value in values if _moves(value.const_value)}
    try:
        file = _WeightFile()
        stored = {key: _stored(tensor, file) for key, tensor in large.items() if tensor is not None}
        file.flush()
    except OSError:
        return model
    for value in values:
        if value.const_value is not None:
            value.const_value = stored.get(id(value.const_value)) or _alone(value.const_value)
    _detach_attributes(model)
    large.clear()
    drop_graphs()
    return model


class _Stored(ir.Tensor[Any]):
    """A tensor of `_Numbers`."""

    def tobytes(self) -> bytes:
        """Return the numbers as bytes, without the copy that an array of them would take."""
        return bytes(self.raw.tobytes())


def drop_leftovers(model: ir.Model) -> None:
    """Free what work on a large model has left: its end by an error or a limit keeps all that it used in a circle."""
    if weight_bytes(model) > IN_MEMORY_BYTES:
        drop_graphs()


def _stored(tensor: ir.TensorProtocol, file: _WeightFile) -> _Stored:
    return _Stored(
        _Numbers(tensor, file),
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _moves(tensor: ir.TensorProtocol | None) -> bool:
    """Return whether the tensor is computed, or large and in memory, as whole numbers of bytes."""
    if isinstance(tensor, ir.LazyTensor):  # small ones too: one computation makes them and large ones
        return tensor.dtype.itemsize >= 1
    if isinstance(tensor, ir.serde.TensorProtoTensor):
        # Other forms of a protobuf would have other bytes when they are written again.
        stated = {field.name: value for field, value in tensor.raw.ListFields() if field.name != "raw_data"}
        in_bytes = tensor.raw.HasField("raw_data") and stated.keys() <= _PLAIN and stated.get("doc_string") != ""
    else:
        in_bytes = isinstance(tensor, ir.Tensor) and not isinstance(tensor, _Stored)
    return tensor is not None and in_bytes and bytes_of(tensor) >= LEAST_STORED_BYTES and tensor.dtype.itemsize >= 1


def _alone(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return a copy of a small tensor of a protobuf: it would hold the whole message with all weights."""
    if not isinstance(tensor, ir.serde.TensorProtoTensor):
        return tensor
    proto = onnx.TensorProto()
    proto.CopyFrom(tensor.raw)
    copy = ir.serde.TensorProtoTensor(proto)
    copy.metadata_props.update(tensor.metadata_props)
    return copy


def _detach_attributes(model: ir.Model) -> None:
    """Copy the tensors of attributes, as small weights."""
    for graph in (*_graphs(model), *model.functions.values()):
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.is_ref() or attribute.type not in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS):
                    continue
                one = attribute.type is ir.AttributeType.TENSOR
                value = _alone(attribute.value) if one else tuple(map(_alone, attribute.value))
                node.attributes[name] = ir.Attr(name, attribute.type, value, doc_string=attribute.doc_string)


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Return the main graph and all bodies of control flow in it."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in (a for node in graph for a in node.attributes.values() if not a.is_ref()):
            if attribute.type is ir.AttributeType.GRAPH:
                waiting.append(attribute.as_graph())
            elif attribute.type is ir.AttributeType.GRAPHS:
                waiting += attribute.as_graphs()


def _equal(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    mine, theirs = (np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8) for tensor in (one, other))
    return np.array_equal(mine, theirs)
