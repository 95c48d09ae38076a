"""A model in memory: its size, its validity, its bytes for ONNX Runtime."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from onnxopt.errors import ModelError, first_line
from onnxopt.model_file.heap import trim_heap, without_collections
from onnxopt.model_file.light import light_proto
from onnxopt.model_file.order import bodies_of, sort_nodes
from onnxopt.model_file.proto import bytes_of, from_proto, to_proto, weights
from onnxopt.model_file.room import no_room
from onnxopt.model_file.serialized import serialized_size, to_bytes, write
from onnxopt.model_file.streamed import DATA_DIGEST, Latest, array_of, write_tensors

EXTERNAL_ABOVE_BYTES = 1_500_000_000
"""Protobuf ends at 2 GiB; stay well below."""

IN_MEMORY_BYTES = 1 << 24
"""The runtime opens models above this from a file: the bytes would be one more copy of the weights beside its own."""

LEAST_EXTERNAL_BYTES = 256
"""Smaller tensors stay in the model file: shapes and scalars, which tools read to infer types."""

LEAST_MAPPED_BYTES = 1 << 16
"""The same for a temporary file of a model below the limit of a protobuf: each tensor outside is mapped by itself."""


def weight_bytes(model: ir.Model) -> int:
    """Return the bytes of all initializers of the main graph and its subgraphs."""
    return sum(map(bytes_of, weights(model)))


def fits_protobuf(model: ir.Model) -> bool:
    """Return whether the model can be held in one protobuf message."""
    return weight_bytes(model) <= EXTERNAL_ABOVE_BYTES


def is_streamed(model: ir.Model) -> bool:
    """Return whether weights of the model are too large for memory, or computed when they are written."""
    return _volume(model)[1]


def _volume(model: ir.Model) -> tuple[int, bool]:
    """Return the bytes of all weights, and whether the model is streamed, after one walk."""
    sizes = [(bytes_of(tensor), isinstance(tensor, ir.LazyTensor)) for tensor in weights(model)]
    total = sum(size for size, _ in sizes)
    return total, total > EXTERNAL_ABOVE_BYTES or any(deferred for _, deferred in sizes)


def size_bytes(model: ir.Model) -> int:
    """Return the size of the model on disk, external data included."""
    size, streamed = _volume(model)
    return size if streamed else serialized_size(model)


def from_bytes(data: bytes) -> ir.Model:
    """Read what `to_bytes` wrote."""
    return from_proto(onnx.load_model_from_string(data))


def from_runtime(data: bytes) -> ir.Model:
    """Read a valid graph that the runtime wrote, whose nodes may be in no order.

    Neither weights in files nor types of inner values are read: such a graph is read for its operators.
    """
    proto = onnx.load_model_from_string(data)
    del proto.graph.value_info[:]
    for body in bodies_of(proto):
        sort_nodes(body)
    return from_proto(proto)


class Operator(NamedTuple):
    """A node by names alone; a missing input or output has an empty one."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Operators:
    """The operators of a graph that the runtime wrote.

    Attributes:
        main: those of the main graph, in an order in which they can run.
        inner: those of its subgraphs.
        kinds: types of the inputs and weights of the main graph by name, as numbers in ONNX.
    """

    main: tuple[Operator, ...]
    inner: tuple[Operator, ...]
    kinds: Mapping[str, int]


def operators_of(data: bytes) -> Operators:
    """Return the operators of a graph as `from_runtime` reads it, in a quarter of the time."""
    proto = onnx.load_model_from_string(data)
    graph, inner = proto.graph, [body for body in bodies_of(proto) if isinstance(body, onnx.GraphProto)][1:]
    sort_nodes(graph)
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return Operators(_operators(graph), tuple(one for body in inner for one in _operators(body)), kinds)


def _operators(graph: onnx.GraphProto) -> tuple[Operator, ...]:
    return tuple(Operator(one.name, one.op_type, tuple(one.input), tuple(one.output)) for one in graph.node)


def write_with_data(
    model: ir.Model, path: Path, data_name: str, least_bytes: int | None = None, *, checked: bool = True
) -> None:
    """Write a model of any size as `path` and, beside it, a file with its weights, one weight at a time.

    Tensors below `least_bytes`, by default `LEAST_EXTERNAL_BYTES`, stay in the model file. The SHA-256 of the file of
    weights is in the model's metadata, under `DATA_DIGEST`, if `checked`.

    Raises:
        OSError: a file cannot be written.
        ModelError: ONX303 a file that weights are read from is missing, or shorter than it was.
    """
    write_all_with_data({path: model}, path.parent / data_name, least_bytes, checked=checked)


def write_all_with_data(
    models: Mapping[Path, ir.Model], data: Path, least_bytes: int | None = None, *, checked: bool = True
) -> None:
    """Write models of one folder and the file `data` with the weights of all; those of several models are in it once.

    `least_bytes` and `checked` are those of `write_with_data`.

    Raises:
        OSError: a file cannot be written.
        ModelError: ONX303 a file that weights are read from is missing, or shorter than it was.
    """
    light = {path: model.clone() for path, model in models.items()}
    values = [v for model in light.values() for graph in model.graphs() for v in graph.initializers.values()]
    least = LEAST_EXTERNAL_BYTES if least_bytes is None else least_bytes
    large = {str(i): v for i, v in enumerate(values) if v.const_value is not None and _goes_out(v.const_value, least)}
    tensors = {key: value.const_value for key, value in large.items() if value.const_value is not None}
    placed, digest = write_tensors(tensors, data, once=len(models) > 1, checked=checked)
    for key, value in large.items():
        placed[key].name, value.const_value = value.name or "", placed[key]
    for path, model in light.items():
        if checked:
            model.metadata_props[DATA_DIGEST] = digest
        path.write_bytes(to_proto(model, embed=False).SerializeToString(deterministic=True))


def _goes_out(tensor: ir.TensorProtocol, least_bytes: int) -> bool:
    # A small tensor in a file would need that file beside the new one; a deferred one is computed with large ones.
    if tensor.dtype is ir.DataType.STRING:
        return False
    return bytes_of(tensor) >= least_bytes or isinstance(tensor, ir.ExternalTensor | ir.LazyTensor)


@contextmanager
def materialize(model: ir.Model, *, mapped: bool = True) -> Iterator[bytes | str]:
    """Give ONNX Runtime something to open: the bytes, or for a large model the path of a temporary file.

    Args:
        model: the model.
        mapped: whether the weights of a large model are in a second file, which the runtime maps. Those that it
            prepares for its kernels are then in memory once, and others not at all; those of a model file are there
            twice while it loads. False writes the file that ships, if one can hold the model.

    Raises:
        FileError: ONX503 the temporary file cannot be written.
    """
    size, streamed = _volume(model)
    if not streamed and size <= IN_MEMORY_BYTES:
        yield to_bytes(model)
        return
    trim_heap()
    # Windows keeps a file that is mapped.
    with tempfile.TemporaryDirectory(prefix="onnxopt-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        try:
            if mapped or streamed:
                least = None if streamed else LEAST_MAPPED_BYTES
                write_with_data(model, path, "model.onnx.data", least, checked=False)  # nobody else reads it
            else:
                write(model, path)
        except OSError as error:
            raise no_room(folder, error.strerror or first_line(error)) from error
        yield str(path)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    # The checker is C++ and warns on file descriptor 1, where results go that another program reads.
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@without_collections()
def check(model: ir.Model) -> None:
    """Check the model with the ONNX checker; inputs and outputs need no shape, as in the runtime.

    The numbers of large weights never reach the checker, which copies them three times.

    Raises:
        ModelError: ONX305, with the checker's first line.
    """
    light, _ = light_proto(_shaped(model))
    try:
        with _stdout_to_stderr():
            onnx.checker.check_model(light)
    except onnx.checker.ValidationError as error:
        raise ModelError("ONX305", "the model is invalid", why=first_line(error)) from error


def _shaped(model: ir.Model) -> ir.Model:
    """Return the model, or a copy whose inputs and outputs all have some shape, because the checker infers none."""
    if all(value.shape is not None for value in (*model.graph.inputs, *model.graph.outputs)):
        return model
    copy = model.clone()
    for value in (*copy.graph.inputs, *copy.graph.outputs):
        if value.shape is None and isinstance(value.type, ir.TensorType):
            value.shape = ir.Shape([])
    return copy


def flush_denormals(model: ir.Model) -> int:
    """Set denormal weights to zero in place of the tensors; return how many.

    Denormals slow a convolution several-fold and carry no information.
    """
    flushed, deferred = 0, is_streamed(model)
    for value in (v for graph in model.graphs() for v in graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            continue
        if isinstance(tensor, ir.LazyTensor):
            continue  # made here, without any
        array = array_of(tensor)
        count = int(np.count_nonzero(_denormal(array)))
        if count:
            value.const_value = _later(tensor) if deferred else ir.tensor(_flushed(array), name=value.name)
            flushed += count
    return flushed


def _denormal(array: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(array) < np.finfo(array.dtype).tiny) & (array != 0))


def _flushed(array: np.ndarray) -> np.ndarray:
    return np.where(_denormal(array), array.dtype.type(0), array)


def _later(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    form = (tensor.dtype, tuple(tensor.shape.numpy()))
    return Latest().deferred(tensor, lambda array: {"flushed": _flushed(array)}, {"flushed": form})["flushed"]
