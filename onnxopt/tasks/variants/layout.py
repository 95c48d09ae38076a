"""A folder of published files, read: which file each was made from, and the type that its name states."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxopt.errors import FileError
from onnxopt.files import read_json
from onnxopt.tasks.variants.conventions import LABELS, ending_of

CONFIG = "genai_config.json"
_DEPTH = 3
"""Folders below the one that is named, down to which configurations of onnxruntime-genai are looked for."""


@dataclass(frozen=True)
class Family:
    """The files of one model.

    Attributes:
        baseline: the float32 file; None where only other types are there.
        variants: the other files, each with the type that its name states.
    """

    baseline: Path | None
    variants: tuple[tuple[Path, str], ...]


def families_of(folder: Path) -> tuple[Family, ...]:
    """Return the models in a folder, in its `onnx` folder, and in folders with a configuration of onnxruntime-genai.

    Raises:
        FileError: ONX501 there is no such folder, or no model in it; ONX505 it is not a folder, or cannot be read.
    """
    if not folder.exists():
        raise FileError("ONX501", "the folder does not exist", where=str(folder), hint="Check the path.")
    if not folder.is_dir():
        raise FileError("ONX505", "this is not a folder", where=str(folder), hint="Name the folder of the model.")
    try:
        found = dict[Path | None, list[tuple[Path, str]]]()
        for place in (folder, folder / "onnx"):
            _by_ending(place, found)
        _by_config(folder, found)
    except OSError as error:
        why = error.strerror or ""
        raise FileError("ONX505", "the folder cannot be read", where=str(folder), why=why) from error
    if not found:
        hint = "Name the folder of the model, or its `onnx` folder."
        raise FileError("ONX501", "there is no .onnx file in the folder", where=str(folder), hint=hint)
    return tuple(Family(baseline, tuple(sorted(some))) for baseline, some in found.items())


def baselines_of(families: Iterable[Family]) -> list[Path]:
    """Return the float32 models of families; one that has only other forms has none."""
    return [family.baseline for family in families if family.baseline is not None]


def _by_ending(place: Path, found: dict[Path | None, list[tuple[Path, str]]]) -> None:
    # A pipe of that name would never end.
    files = sorted(f for f in place.glob("*.onnx") if f.is_file() and not f.name.startswith("."))
    known = {file.stem: file for file in files}
    for file in files:
        ending = ending_of(file.stem)
        base = known.get(file.stem.removesuffix(ending)) if ending else file
        if base is file:
            found.setdefault(file, [])
        else:
            found.setdefault(base, []).append((file, LABELS[ending]))


def _by_config(folder: Path, found: dict[Path | None, list[tuple[Path, str]]]) -> None:
    """Add the files that configurations of onnxruntime-genai name, beside those of the same name that are known."""
    configs = [path for depth in range(_DEPTH + 1) for path in sorted(folder.glob("*/" * depth + CONFIG))]
    for config in configs:
        for name in sorted(set(file_names(config))):
            file = config.parent / name
            taken = {*found, *(path for some in found.values() for path, _ in some)}
            if file in taken:
                continue
            base = _full(config.parent, name, folder, found)
            found.setdefault(base, []).append((file, config.parent.name))


def _full(place: Path, name: str, folder: Path, found: dict[Path | None, list[tuple[Path, str]]]) -> Path | None:
    """Return the float32 file of a variant in a separate folder."""
    if place == folder:
        return None
    return next((file for file in found if file is not None and file.name == name), None)


def file_names(config: Path) -> Iterator[str]:
    """Yield the model files that a configuration names; none where it cannot be read."""
    try:
        content = read_json(config)
    except ValueError:
        return
    model = content.get("model") if isinstance(content, dict) else None
    for part in model.values() if isinstance(model, dict) else ():
        name = part.get("filename") if isinstance(part, dict) else None
        if isinstance(name, str) and re.fullmatch(r"[^/\\\0]+\.onnx", name) and ".." not in name:
            yield name
