"""Weights of models that memory does not hold: read one at a time, computed when they are written."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError

CHUNK_BYTES = 1 << 24
"""Of a tensor, read and written at a time."""

ALIGNMENT = 4096
"""Large tensors begin on a page, so that a runtime can map them."""

DATA_DIGEST = "onnxopt.data_sha256"
"""Key of the checksum of a file with weights, in the metadata of the model file that names it."""

Arrays = Mapping[str, np.ndarray]
"""Results of one computation, by name."""
Form = tuple[ir.DataType, tuple[int, ...]]
"""Type and shape of one of them."""

_SOURCE = "onnxopt.source"


def array_of(tensor: ir.TensorProtocol) -> np.ndarray:
    """Return a tensor's numbers; of one in a file a mapping that ends with the last reference to the array.

    `tensor.numpy()` keeps the mapping for as long as the model lives, and with it every page that was read.

    Raises:
        ModelError: ONX303 the file is missing, or shorter than it was.
    """
    if not isinstance(tensor, ir.ExternalTensor):
        return np.asarray(tensor.numpy())
    file = Path(tensor.path)
    missing = (tensor.offset or 0) + tensor.nbytes - (file.stat().st_size if file.is_file() else 0)
    if missing > 0:
        raise _short(tensor, f"{missing} bytes are missing at the end of weight {tensor.name!r}")
    place = (tensor.location, tensor.offset, tensor.length, tensor.dtype)
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(*place, shape=shape, name=tensor.name or "", base_dir=tensor.base_dir).numpy()


def checksum(tensor: ir.TensorProtocol) -> bytes:
    """Return a checksum of type, shape and contents: tensors are equal where theirs are.

    Raises:
        ModelError: ONX303 the file of the tensor is missing, or shorter than it was.
    """
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.shape}".encode())
    if tensor.dtype is ir.DataType.STRING:
        for text in np.asarray(tensor.numpy(), object).ravel():
            one = text.encode() if isinstance(text, str) else bytes(text)
            digest.update(len(one).to_bytes(8, "little") + one)
    elif tensor.dtype.itemsize < 1:  # several numbers share a byte
        digest.update(tensor.tobytes())
    else:
        digest.update(np.ascontiguousarray(array_of(tensor)).reshape(-1).view(np.uint8).data)
    return digest.digest()


class Latest:
    """Results of computations, of which the latest alone is kept in memory."""

    def __init__(self) -> None:
        self._key: object = None
        self._made: Arrays = {}

    def of(self, key: object, compute: Callable[[], Arrays]) -> Arrays:
        """Return the result of `compute`, which is called unless `key` is the one of the last call."""
        if key != self._key:
            self._key, self._made = None, {}  # before the next is computed: never two at a time
            self._made = _frozen(compute())
            self._key = key
        return self._made

    def deferred(
        self, source: ir.TensorProtocol, compute: Callable[[np.ndarray], Arrays], forms: Mapping[str, Form]
    ) -> dict[str, ir.TensorProtocol]:
        """Return tensors that are computed of `source` when they are read.

        Args:
            source: the weight.
            compute: takes its numbers, and returns an array for each name.
            forms: type and shape of each array.
        """
        key, made = object(), dict[str, ir.TensorProtocol]()

        def reader(name: str) -> Callable[[], ir.TensorProtocol]:
            return lambda: ir.tensor(self.of(key, lambda: compute(array_of(source)))[name])

        for name, (dtype, shape) in forms.items():
            lazy = ir.LazyTensor(reader(name), dtype, ir.Shape(shape))
            lazy.meta[_SOURCE] = source
            made[name] = lazy
        return made


def streamed_tensors(
    source: ir.TensorProtocol,
    compute: Callable[[np.ndarray], Arrays],
    forms: Mapping[str, Form],
    latest: Latest | None,
) -> dict[str, ir.TensorProtocol]:
    """Return tensors that are computed of `source` now, or, if `latest` is given, when they are read."""
    if latest is not None:
        return latest.deferred(source, compute, forms)
    return {name: ir.tensor(array) for name, array in _frozen(compute(array_of(source))).items()}


def _frozen(arrays: Arrays) -> Arrays:
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def file_of(tensor: ir.TensorProtocol) -> Path | None:
    """Return the file that a tensor is read from, or computed from when it is read; None for memory."""
    while isinstance(tensor, ir.LazyTensor) and _SOURCE in tensor.meta:
        tensor = tensor.meta[_SOURCE]
    return Path(tensor.path) if isinstance(tensor, ir.ExternalTensor) else None


def write_tensors(
    tensors: Mapping[str, ir.TensorProtocol], path: Path, *, once: bool = False, checked: bool = True
) -> tuple[dict[str, ir.ExternalTensor], str]:
    """Write tensors to a new file, one at a time; return where each is now, and the SHA-256 of the file if `checked`.

    Args:
        tensors: the tensors by name.
        path: the file.
        once: whether tensors of the same bytes share one place.
        checked: whether the checksum is computed; a file that only this process reads needs none.

    Raises:
        OSError: the file cannot be written.
        ModelError: ONX303 a file that a tensor is read from is missing, or shorter than it was.
    """
    placed, digest, end = dict[str, ir.ExternalTensor](), hashlib.sha256(), 0
    known = dict[bytes, int]()
    with path.open("wb") as file:
        for name, tensor in tensors.items():
            gap = bytes(-end % ALIGNMENT if tensor.nbytes >= ALIGNMENT else 0)
            at, whole, own = end + len(gap), digest.copy(), hashlib.sha256()
            file.write(gap)
            whole.update(gap)
            size = 0
            for chunk in _chunks(tensor):
                file.write(chunk)
                if checked:
                    whole.update(chunk)
                if once:
                    own.update(chunk)
                size += len(chunk)
            before = known.setdefault(own.digest(), at) if once else at
            if before == at:
                digest, end = whole, at + size
            else:  # its bytes are there: these go again, and are read only once, because some are computed then
                file.seek(end)
                file.truncate()
            shape = ir.Shape(tensor.shape.numpy())
            place = (path.name, before, size, tensor.dtype)
            placed[name] = ir.ExternalTensor(*place, shape=shape, name=name, base_dir=path.parent)
    return placed, digest.hexdigest() if checked else ""


def _chunks(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview]:
    if isinstance(tensor, ir.ExternalTensor):
        yield from _file_chunks(tensor)
        return
    array = np.ascontiguousarray(tensor.numpy()) if tensor.dtype.itemsize >= 1 else None
    little = array is not None and array.dtype.newbyteorder("<") == array.dtype
    data: Any = memoryview(array.reshape(-1).view(np.uint8).data) if little and array is not None else tensor.tobytes()
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _file_chunks(tensor: ir.ExternalTensor) -> Iterator[bytes]:
    """Read and do not map: a file that somebody cut short meanwhile is an error then, and no crash."""
    left = tensor.nbytes
    try:
        with Path(tensor.path).open("rb") as file:
            file.seek(tensor.offset or 0)
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise _short(tensor, f"{left} bytes are missing at the end of weight {tensor.name!r}")
                left -= len(chunk)
                yield chunk
    except FileNotFoundError as error:
        raise _short(tensor, "it was there when the model was loaded") from error


def _short(tensor: ir.ExternalTensor, why: str) -> ModelError:
    what = "external data is missing or too short"
    hint = "Put the complete file back, and load the model again."
    return ModelError("ONX303", what, where=str(tensor.path), why=why, hint=hint)
