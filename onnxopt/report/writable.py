"""Refuse outputs that cannot be written before any work is done for them."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import DecodeError

from onnxopt.errors import FileError, first_line
from onnxopt.model_file.save import external_files, refuse_existing


def refuse_output_file(out: Path, *, overwrite: bool, source: Path | None, read: Iterable[object] = ()) -> None:
    """Refuse a file that cannot be written in the end.

    Args:
        out: the file.
        overwrite: whether it may exist.
        source: the file it is made from; None when that is in memory.
        read: whatever else is read, of which paths of files count.

    Raises:
        FileError: ONX502 it exists, ONX503 it or its folder cannot be written, ONX504 it is one of the files that are
            read, those with the source's weights included.
    """
    refuse_inputs([out], source, read)
    if out.is_dir():
        raise FileError("ONX503", "cannot write the output", where=str(out), why="it is a folder", hint="Name a file.")
    refuse_existing(out, overwrite)
    if not out.parent.is_dir():
        raise FileError(
            "ONX503",
            "cannot write the output",
            where=str(out),
            why=f"there is no folder {out.parent}",
            hint="Make it first, or choose another.",
        )
    refuse_unwritable(out.parent)


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
    files = [Path(item) for item in read if isinstance(item, str | Path)]
    inputs = [file for file in (*models, *files) if _is_file(file)]
    for out in filter(_is_file, outs):
        if any(out.samefile(file) for file in inputs):
            raise FileError(
                "ONX504",
                "the output would overwrite a file that is read",
                where=str(out),
                hint="Choose another name or folder.",
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name of samples that can be no path
        return False


def _data_of(model: Path) -> tuple[Path, ...]:
    try:
        return external_files(model)
    except (OSError, DecodeError):  # what is wrong with it is told when it is loaded
        return ()


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder, or one that could be made, in which no file can be created.

    Raises:
        FileError: ONX503.
    """
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
