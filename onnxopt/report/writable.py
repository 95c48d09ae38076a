"""Refuse outputs that cannot be written before any work is done for them."""

import tempfile
from pathlib import Path

from onnxopt.errors import FileError, first_line
from onnxopt.model_file.save import refuse_existing


def refuse_output_file(out: Path, *, overwrite: bool, source: Path | None) -> None:
    """Refuse a file that cannot be written in the end.

    Args:
        out: the file.
        overwrite: whether it may exist.
        source: the file it is made from; None when that is in memory.

    Raises:
        FileError: ONX502 it exists, ONX503 it or its folder cannot be written, ONX504 it is the source itself.
    """
    if source is not None and out.exists() and source.exists() and out.samefile(source):
        raise FileError("ONX504", "the output is the model itself", where=str(out), hint="Choose another name.")
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
