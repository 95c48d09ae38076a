"""Reading files that may come from anybody: regular ones only, of limited size, inside the folder that was named."""

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

MOST_TEXT_BYTES = 1 << 30
"""Of a file that is read as a whole: JSON, TOML, a journal."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


_KEPT = 40
"""Characters of a name in the name of its temporary file: of four bytes each they fit a name with what is added."""


def hidden(name: str) -> str:
    """Return the beginning of the name of a temporary file or folder beside `name`, which may be as long as can be."""
    return f".{name[:_KEPT]}."


class NotRegularError(OSError):
    """The path is no file that can be read to its end."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(0, why, str(path))


def open_regular(path: Path, inside: Path | None = None) -> BinaryIO:
    """Open a regular file for reading; a pipe, a device or a link to one never blocks.

    Args:
        path: may be a link.
        inside: folder that the file must lie in, after all links; None for any.

    Raises:
        NotRegularError: it is something else, or lies elsewhere.
        OSError: it cannot be opened.
    """
    if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
        raise NotRegularError(path, "it lies outside the folder that was named")
    # Opening a pipe waits for its other end unless this is said.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise NotRegularError(path, f"it is {_KINDS.get(kind, 'something else')}, not a file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, most: int = MOST_TEXT_BYTES, inside: Path | None = None) -> bytes:
    """Return the content of a regular file of at most `most` bytes; raises like `open_regular`."""
    with open_regular(path, inside) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise NotRegularError(path, f"it is larger than {most} bytes")
    return data


def read_text(path: Path, *, inside: Path | None = None) -> str:
    """Return the UTF-8 text of a regular file.

    Raises:
        OSError: as `open_regular`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, inside=inside).decode("utf-8-sig")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: as `open_regular`.
        ValueError: it is not JSON, or nested too deep.
    """
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Return the value in JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        OSError: as `open_regular`.
        ValueError: it is not TOML, or nested too deep.
    """
    try:
        return tomllib.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
