"""A folder written again with the chosen forms of its parts, whole or not at all."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnxopt import model_file
from onnxopt.errors import FileError, first_line
from onnxopt.files import hidden
from onnxopt.model_file.save import external_files
from onnxopt.tasks.variants.layout import baselines_of, families_of
from onnxopt.tasks.variants.side_files import copy_files, side_files


def write_parts(folder: Path, out: Path, used: Mapping[Path, Path]) -> Path:
    """Write `folder` again as `out`, with other files under the names of some of its models.

    Args:
        folder: the folder with the models.
        out: the new folder.
        used: the file to use, by the model that it replaces; the other models are copied.

    Raises:
        FileError: ONX502 `out` exists, ONX503 it cannot be written, ONX505 a side file cannot be read.
    """
    if out.exists():
        raise FileError("ONX502", "the output exists", where=str(out), hint="Remove it, or choose another --out.")
    models = baselines_of(families_of(folder))
    inside = out.parent.resolve()
    sides = [file for file in side_files(folder, below=True) if not file.resolve().is_relative_to(inside)]
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=hidden(out.name)) as place:
            part = Path(place) / "part"
            part.mkdir()
            copy_files(sides, folder, part)
            for path in models:
                _write(path, used.get(path, path), folder, part)
            part.replace(out)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError("ONX503", "cannot write the output", where=str(out), why=why) from error
    return out


def _write(path: Path, made: Path, folder: Path, part: Path) -> None:
    """Write a model as `path` is in `folder`, with the names of its data; a file of several models once."""
    target = part / path.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    before, now = external_files(path), external_files(made)
    if [file.name for file in now] == [file.name for file in before]:
        missing = [file for file in now if not (target.parent / file.relative_to(made.parent)).exists()]
        source, copies = (folder, part) if made == path else (made.parent, target.parent)
        copy_files([made, *missing], source, copies)
        return
    # One name for the data of two models would be that of one of them.
    data = [file.name for file in before if not (target.parent / file.name).exists()]
    model_file.save(model_file.load(made), target, data_name=data[0] if len(data) == 1 else None)
