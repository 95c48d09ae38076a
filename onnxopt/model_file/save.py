"""Write files so that at every moment the old or the new one is there, whole."""

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxopt.errors import FileError, first_line
from onnxopt.model_file import memory


def _unwritable(path: Path, error: OSError) -> FileError:
    why = error.strerror or first_line(error)
    hint = "Free some space." if error.errno == errno.ENOSPC else "Choose a folder that exists and that you may write."
    return FileError("ONX503", "cannot write the output", where=str(path), why=why, hint=hint)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file unless that was asked for.

    Raises:
        FileError: ONX502 it exists.
    """
    if path.exists() and not overwrite:
        raise FileError(
            "ONX502", "the output exists", where=str(path), hint="Choose another name, or pass --overwrite."
        )


def atomic_write_bytes(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` to a temporary sibling, flush it to the disk, then rename it to `path`.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written.
    """
    refuse_existing(path, overwrite)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
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


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the external-data files that the model file at `path` names, in order of first use."""
    proto = onnx.load(str(path), load_external_data=False)
    names = {
        entry.value: None
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / name for name in names)


def _loaded_from(model: ir.Model) -> set[Path]:
    tensors = (v.const_value for v in model.graph.initializers.values())
    return {Path(t.path).resolve() for t in tensors if isinstance(t, ir.ExternalTensor)}


def save(
    model: ir.Model, path: str | Path, *, overwrite: bool = False, provenance: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Save `model` at `path`, with external data beside it (`NAME.data`) when the weights exceed 1.5 GB.

    The files are written whole under temporary names and renamed last. Denormal weights are flushed. The user's
    metadata is kept; `provenance` is added under `onnxopt.*`.

    Returns:
        The files written, the `.onnx` file first.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written, ONX504 it would replace the external data that
            `model` still reads its weights from.
    """
    path = Path(path)
    data_path = path.with_name(path.name + ".data")
    refuse_existing(path, overwrite)
    if {path.resolve(), data_path.resolve()} & _loaded_from(model):
        raise FileError(
            "ONX504",
            "the output would overwrite the weights the model is read from",
            where=str(path),
            hint="Save under another name or in another folder.",
        )
    saved = model.clone()
    memory.flush_denormals(saved)
    for key, text in (provenance or {}).items():
        saved.metadata_props[f"onnxopt.{key}"] = text
    if memory.weight_bytes(saved) <= memory.EXTERNAL_ABOVE_BYTES:
        atomic_write_bytes(path, memory.to_bytes(saved), overwrite=overwrite)
        return (path,)
    refuse_existing(data_path, overwrite)
    _save_external(saved, path, data_path)
    return (path, data_path)


def _save_external(model: ir.Model, path: Path, data_path: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            ir.save(model, Path(folder) / path.name, external_data=data_path.name)
            for file in (data_path, path):
                part = Path(folder) / file.name
                with part.open("rb+") as handle:
                    os.fsync(handle.fileno())
            # Weights first: a model file never names weights that are not there yet.
            for file in (data_path, path):
                (Path(folder) / file.name).replace(file)
    except OSError as error:
        raise _unwritable(path, error) from error
