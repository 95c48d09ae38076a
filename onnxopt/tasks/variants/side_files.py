"""Files that go with a model: configuration, tokenizer, templates."""

import re
from collections.abc import Iterable
from pathlib import Path

from onnxopt.errors import FileError
from onnxopt.files import open_regular
from onnxopt.model_file import atomic_write

CARD = "variants.md"
_MODELS = re.compile(
    r"\.(onnx|onnx[._]data(_\d+)?|data|part|ort|safetensors|bin|pt|pth|h5|msgpack|ot|gguf|tflite|mlmodel)$"
)
"""Weights, in ONNX or for other frameworks."""
_AT_ONCE = 1 << 20


def side_files(folder: Path, *, below: bool = False) -> tuple[Path, ...]:
    """Return the files in a folder, or also in those below, that are no weights, not hidden and not written here."""
    found = folder.rglob("*") if below else folder.iterdir()
    return tuple(sorted(f for f in found if _goes_with(f.relative_to(folder)) and f.is_file()))


def _goes_with(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.name != CARD and not _MODELS.search(path.name)


def copy_files(files: Iterable[Path], source: Path, target: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Copy files of the folder `source` to the same places in `target`.

    Raises:
        FileError: ONX502 one exists, ONX503 it cannot be written, ONX505 it cannot be read, or is a link out of the
            folder.
    """
    copies = list[Path]()
    for file in files:
        copy = target / file.relative_to(source)
        _copy(file, source, copy, overwrite=overwrite)
        copies.append(copy)
    return tuple(copies)


def _copy(file: Path, source: Path, copy: Path, *, overwrite: bool) -> None:
    try:
        opened = open_regular(file, inside=source)
    except OSError as error:
        hint = "Put the file itself there, or remove it."
        raise FileError(
            "ONX505", "a side file cannot be read", where=str(file), why=error.strerror or "", hint=hint
        ) from error
    with opened as content:
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                "ONX503", "cannot write the output", where=str(copy.parent), why=error.strerror or ""
            ) from error
        pieces = iter(lambda: content.read(_AT_ONCE), b"")
        atomic_write(copy, lambda target: target.writelines(pieces), overwrite=overwrite)
