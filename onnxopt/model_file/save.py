"""Write files so that at every moment the old or the new one is there, whole."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from onnxopt.errors import FileError, first_line
from onnxopt.files import hidden
from onnxopt.model_file import memory
from onnxopt.model_file.proto import stored_tensors, weights
from onnxopt.model_file.serialized import pieces
from onnxopt.model_file.streamed import file_of

Proof = Callable[[Path], None]
"""Looks at a file that is about to take its place, and raises if it must not."""


def _unwritable(path: Path, error: OSError) -> FileError:
    why = error.strerror or first_line(error)
    hint = "Free some space." if error.errno == errno.ENOSPC else "Choose a folder that exists and that you may write."
    return FileError("ONX503", "cannot write the output", where=str(path), why=why, hint=hint)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file without `overwrite`.

    Raises:
        FileError: ONX502 it exists.
    """
    if path.exists() and not overwrite:
        raise FileError(
            "ONX502", "the output exists", where=str(path), hint="Choose another name, or pass --overwrite."
        )


def atomic_write_bytes(
    path: Path, data: bytes | Iterable[bytes], *, overwrite: bool = False, proof: Proof | None = None
) -> None:
    """Write `data`, whole or in pieces, see `atomic_write`."""

    def write(file: BinaryIO) -> None:
        file.writelines([data] if isinstance(data, bytes) else data)

    atomic_write(path, write, overwrite=overwrite, proof=proof)


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], *, overwrite: bool = False, proof: Proof | None = None
) -> None:
    """Write a temporary sibling, flush it to the disk, check it by `proof`, then rename it to `path`.

    Args:
        path: the path of the file.
        write: is given the file, opened for writing.
        overwrite: whether it may exist.
        proof: called with the temporary file; if it raises, nothing is written.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written.
    """
    refuse_existing(path, overwrite)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=hidden(path.name), suffix=".part")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if proof is not None:
            proof(temporary)
        _give_usual_mode(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write text as UTF-8, see `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode(), overwrite=overwrite)


def _give_usual_mode(path: Path) -> None:
    # mkstemp makes files only the owner can read; a saved model should look like any other file.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


_PART = 1 << 20
"""Bytes of a file that are looked through at a time."""


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the external-data files that the model file at `path` names, in order of first use."""
    if not _has(path, b"location"):  # the key of such a file: without it a large model need not be read
        return ()
    proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    entries = (entry for tensor in stored_tensors(proto) for entry in tensor.external_data)
    return tuple(dict.fromkeys(path.parent / entry.value for entry in entries if entry.key == "location"))


def _has(path: Path, text: bytes) -> bool:
    """Return whether a file contains `text`, with a little of it in memory at a time."""
    before = b""
    with path.open("rb") as file:
        while part := file.read(_PART):
            if text in (both := before + part):
                return True
            before = both[-len(text) + 1 :]
    return False


def size_of(model: ir.Model | str | Path) -> int:
    """Return the bytes of a model file and its external data; of a model in memory, its size when saved."""
    if isinstance(model, ir.Model):
        return memory.size_bytes(model)
    path = Path(model)
    return sum(file.stat().st_size for file in (path, *external_files(path)))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file, which is the same under all its names, symbolic and hard links included."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _loaded_from(model: ir.Model) -> set[tuple[int, int] | None]:
    return {_identity(file) for file in map(file_of, weights(model)) if file is not None} - {None}


def stamped(model: ir.Model, provenance: Mapping[str, str]) -> ir.Model:
    """Return a copy as `save` would write it: denormal weights flushed, `provenance` added under `onnxopt.*`."""
    copy = model.clone()
    memory.flush_denormals(copy)
    for key, text in provenance.items():
        copy.metadata_props[f"onnxopt.{key}"] = text
    return copy


def save(
    model: ir.Model,
    path: str | Path,
    *,
    overwrite: bool = False,
    provenance: Mapping[str, str] | None = None,
    proof: Proof | None = None,
    data_name: str | None = None,
) -> tuple[Path, ...]:
    """Save `model` at `path`, with external data beside it (`NAME.data`) when the weights exceed 1.5 GB.

    What was made of such a model has its weights there too: they are computed one by one while they are written.

    The files are written whole under temporary names and renamed last. Data that replaces older data gets another name
    (`NAME.2.data`), and the older is removed last. Denormal weights are flushed. The user's metadata is kept.

    Args:
        model: the input model (not modified).
        path: the path of the `.onnx` file.
        overwrite: whether it may exist.
        provenance: metadata that is added under `onnxopt.*`.
        proof: called with the temporary file before it is renamed; if it raises, nothing is written.
        data_name: the name of the file with external data, which must not exist; None for `NAME.data`.

    Returns:
        The files written, the `.onnx` file first.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written, ONX504 it would replace the external data that
            `model` still reads its weights from.
        ModelError: ONX303 a file that weights are read from is missing, or shorter than it was.
    """
    path = Path(path)
    data_path = path.with_name(data_name or path.name + ".data")
    refuse_existing(path, overwrite)
    if {_identity(path), _identity(data_path), *map(_identity, _replaced(path))} & _loaded_from(model):
        raise FileError(
            "ONX504",
            "the output would overwrite the weights the model is read from",
            where=str(path),
            hint="Save under another name or in another folder.",
        )
    saved = stamped(model, provenance or {})
    stale = _replaced(path)
    if not memory.is_streamed(model):
        atomic_write_bytes(path, pieces(saved), overwrite=overwrite, proof=proof)
        written: tuple[Path, ...] = (path,)
    else:
        refuse_existing(data_path, overwrite and data_name is None)
        written = _save_external(saved, path, _free_name(data_path), proof)
    for file in stale:
        with suppress(OSError):  # the new model is whole; the old data is only in the way
            file.unlink()
    return written


def _replaced(path: Path) -> tuple[Path, ...]:
    """Return the data files that an earlier `save` wrote for the model that is now at `path`."""
    try:
        return tuple(f for f in external_files(path) if f.parent == path.parent and f.name.startswith(f"{path.name}."))
    except (OSError, DecodeError):
        return ()


def _free_name(data_path: Path) -> Path:
    # Never over the data of an older model: if we are stopped between the two renames, that model is still whole.
    free, number = data_path, 1
    while free.exists():
        number += 1
        free = data_path.with_suffix(f".{number}.data")
    return free


def _save_external(model: ir.Model, path: Path, data_path: Path, proof: Proof | None) -> tuple[Path, Path]:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=hidden(path.name)) as folder:
            part = Path(folder) / path.name
            part_data = Path(folder) / data_path.name
            memory.write_with_data(model, part, data_path.name)
            for file in (part_data, part):
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            if proof is not None:
                proof(part)
            # Weights first: a model file never names weights that are not there yet.
            part_data.replace(data_path)
            try:
                part.replace(path)
            except BaseException:
                data_path.unlink()
                raise
    except OSError as error:
        raise _unwritable(path, error) from error
    return path, data_path
