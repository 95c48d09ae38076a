"""Refuse outputs that cannot be written before any work is done for them."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import DecodeError

from onnxopt.errors import FileError, first_line
from onnxopt.model_file.save import external_files, refuse_existing

_TEXTS = frozenset((".csv", ".html", ".json", ".jsonl", ".md", ".py", ".sha256", ".toml", ".tsv", ".txt", ".xml"))
_IMAGES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
_OTHERS = _TEXTS | _IMAGES | {".npy", ".npz", ".parquet", ".pb", ".pt"}
"""Endings of files other than models."""
_READ_BELOW = _IMAGES | {".pb", ".txt", ".xml"}
"""Endings of files that are read in the folders below a folder of samples too."""
_MOST_BYTES = 255 - len(".data")
_OF_A_RUN = ("best", "smallest", "fastest", "run", "report", "golden", "journal", "MANIFEST")


def refuse_output_file(
    out: Path, *, overwrite: bool, source: Path | None, read: Iterable[object] = (), kind: str = ".onnx"
) -> None:
    """Refuse a file that cannot be written in the end.

    Args:
        out: the file.
        kind: usual ending of such a file.
        overwrite: whether it may exist.
        source: the file it is made from; None when that is in memory.
        read: whatever else is read, of which paths of files count.

    Raises:
        FileError: ONX502 it exists, ONX503 it or its folder cannot be written, ONX504 it is one of the files that are
            read, those with the source's weights included.
    """
    _refuse_name(out)
    refuse_inputs([out], source, read)
    if out.is_dir():
        raise FileError("ONX503", "cannot write the output", where=str(out), why="it is a folder", hint="Name a file.")
    refuse_existing(out, overwrite)
    _refuse_other_kind(out, kind)
    if not out.parent.is_dir():
        raise FileError(
            "ONX503",
            "cannot write the output",
            where=str(out),
            why=f"there is no folder {out.parent}",
            hint="Make it first, or choose another.",
        )
    refuse_unwritable(out.parent)


def _refuse_name(out: Path) -> None:
    """Refuse a path that a model cannot be loaded from, or a name that a file system cannot hold.

    Raises:
        FileError: ONX503.
    """
    size, why = len(os.fsencode(out.name)), ""
    if size > _MOST_BYTES:
        why = f"its name has {size} bytes; with room for .data behind it, {_MOST_BYTES} are the most"
    try:
        str(out).encode()
    except UnicodeEncodeError:
        why = "its name is not UTF-8, and ONNX Runtime opens no other"
    if why:
        raise FileError("ONX503", "cannot write the output", where=str(out), why=why, hint="Choose another name.")


def _refuse_other_kind(out: Path, kind: str) -> None:
    """Refuse to replace a file that is the result of something else.

    Raises:
        FileError: ONX504.
    """
    if not _is_file(out):
        return
    why = ""
    if out.stem in _OF_A_RUN and (out.parent / "run.json").is_file():
        why = "it belongs to the run in its folder"
    elif out.suffix in _OTHERS - {kind}:
        why = f"this command writes no {out.suffix} file"
    if why:
        raise FileError(
            "ONX504", "the output would overwrite a file of another kind", where=str(out), why=why, hint=_ELSEWHERE
        )


_ELSEWHERE = "Choose another name or folder."


def refuse_inputs(outs: Iterable[Path], source: Path | None, read: Iterable[object] = ()) -> None:
    """Refuse to write over a file that is read.

    Args:
        outs: files to write, which may not exist yet.
        source: a model; its external data counts too.
        read: whatever else is read, of which paths of files count.

    Raises:
        FileError: ONX504.
    """
    models = [] if source is None else [source, *_data_of(source)]
    named = [Path(item) for item in read if isinstance(item, str | Path)]
    inputs = [file for file in (*models, *named) if _is_file(file)]
    folders = [folder for folder in named if _is_folder(folder)]
    for out in filter(_is_file, outs):
        if any(out.samefile(file) for file in inputs) or any(_is_read(out, folder) for folder in folders):
            raise FileError(
                "ONX504",
                "the output would overwrite a file that is read",
                where=str(out),
                hint=_ELSEWHERE,
            )


def _is_read(out: Path, folder: Path) -> bool:
    """Return whether a file may be a sample of the folder."""
    if out.suffix not in _OTHERS or not out.resolve().is_relative_to(folder.resolve()):
        return False
    return out.parent.samefile(folder) or out.suffix in _READ_BELOW


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name of samples that can be no path
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name of samples that can be no path
        return False


def _data_of(model: Path) -> tuple[Path, ...]:
    try:
        return external_files(model)
    except (OSError, DecodeError):  # loading it names the fault
        return ()


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder, or one that could be made, in which no file can be created, or from which no model is loaded.

    Raises:
        FileError: ONX503.
    """
    _refuse_name(folder)
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise FileError(
            "ONX503",
            "cannot write the output",
            where=str(folder),
            why=error.strerror or first_line(error),
            hint="Choose a folder that you may write.",
        ) from error
