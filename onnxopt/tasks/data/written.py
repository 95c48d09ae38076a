"""Samples written as one .npz file or as a folder with one per sample, whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np

from onnxopt.errors import DataError, FileError, first_line
from onnxopt.files import hidden
from onnxopt.model_file import atomic_write
from onnxopt.model_file.writable import refuse_unwritable
from onnxopt.pipeline import StageProgress
from onnxopt.samples import Samples
from onnxopt.samples.archive import most_bytes
from onnxopt.samples.expect import LABEL_KEYS


class RaggedError(DataError):
    """Samples differ in shape, so that one array cannot hold them."""


def write_archive(path: Path, samples: Samples, *, overwrite: bool, progress: StageProgress) -> None:
    """Write one array per input, and the labels as `y`; one sample is in memory at a time.

    Raises:
        RaggedError: ONX203 the samples differ in shape, or are more than an archive may hold when it is read.
        FileError: ONX502 it exists, ONX503 it cannot be written.
    """
    first = _read(samples, 0)
    whole = len(samples) * sum(array.nbytes for array in first.values())
    if whole > most_bytes():
        why = f"{whole} bytes, and {most_bytes()} are the limit of an archive on this machine"
        raise RaggedError("ONX203", "the samples are too large for one file", where=str(path), why=why, hint=_FOLDER)

    def fill(file: BinaryIO) -> None:
        with ZipFile(file, "w") as archive:
            for done, name in enumerate(first):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    for chunk in _member(samples, name, str(path)):
                        member.write(chunk)
                progress("inputs written", done + 1, len(first))
            key, labels = _labels(samples)
            if labels is not None:
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, labels, allow_pickle=False)

    atomic_write(path, fill, overwrite=overwrite)


def write_folder(path: Path, samples: Samples, *, progress: StageProgress) -> None:
    """Write one .npz file per sample into a new folder, in the order of their names.

    Raises:
        FileError: ONX502 the folder exists, ONX503 it cannot be written.
    """
    refuse_folder(path)
    key, labels = _labels(samples)
    width = len(str(len(samples) - 1))
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=hidden(path.name), suffix=".part"))
        for index in range(len(samples)):
            arrays = _read(samples, index)
            if labels is not None:
                arrays[key] = labels[index]
            with (temporary / f"{index:0{width}d}.npz").open("wb") as file:
                _savez(file, arrays)
            progress("samples written", index + 1, len(samples))
        temporary.chmod(0o755)
        temporary.rename(path)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError("ONX503", "cannot write the output", where=str(path), why=why) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_folder(path: Path) -> None:
    """Refuse a folder that exists or cannot be made.

    Raises:
        FileError: ONX502, ONX503.
    """
    if path.exists():
        hint = "Choose another name, or delete it."
        raise FileError("ONX502", "the output exists", where=str(path), why="a folder is never replaced", hint=hint)
    if not path.parent.is_dir():
        why = f"there is no folder {path.parent}"
        raise FileError("ONX503", "cannot write the output", where=str(path), why=why, hint="Make it first.")
    refuse_unwritable(path.parent)


def has_labels(samples: Samples) -> bool:
    """Return whether the labels are an array that a file of arrays holds; boxes are not."""
    return samples.labels is not None and samples.labels.dtype != object


_FOLDER = "Name a folder without an ending: -o samples, which gets a file per sample."


def _labels(samples: Samples) -> tuple[str, np.ndarray | None]:
    inputs = set(_read(samples, 0))
    key = next(key for key in LABEL_KEYS if key not in inputs)
    return key, np.asarray(samples.labels) if has_labels(samples) else None


def _read(samples: Samples, position: int) -> dict[str, np.ndarray]:
    """Return one sample as NumPy stores it: text by its letters, types that it does not know as float32."""
    feeds = samples.source.read(int(samples.indices[position]))
    return {name: _storable(np.asarray(array)) for name, array in feeds.items()}


def _storable(array: np.ndarray) -> np.ndarray:
    if array.dtype == object:
        return array.astype(str)
    return array if array.dtype.kind in "biufc" else array.astype(np.float32)


def _member(samples: Samples, name: str, where: str) -> Iterator[bytes]:
    """Yield the bytes of an .npy file with all samples of one input."""
    first = _read(samples, 0)[name]
    dtype = first.dtype
    if dtype.kind == "U":
        dtype = max((_read(samples, i)[name].dtype for i in range(len(samples))), key=lambda kind: kind.itemsize)
    yield _header(dtype, (len(samples), *first.shape))
    for position in range(len(samples)):
        array = _read(samples, position)[name]
        if array.shape != first.shape:
            raise RaggedError(
                "ONX203",
                "the samples differ in shape, and one file cannot hold them",
                where=where,
                why=f"{name!r} of sample {position} has shape {array.shape}, the first has {first.shape}",
                hint=_FOLDER,
            )
        yield array.astype(dtype, copy=False).tobytes()


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _savez(file: BinaryIO, arrays: dict[str, np.ndarray]) -> None:
    """Write what `numpy.savez` does, for input names that are its own arguments too."""
    with ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
