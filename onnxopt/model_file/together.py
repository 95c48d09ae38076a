"""Models of one folder that keep their weights in one file: what several have is in it once."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from onnxopt.errors import FileError, first_line
from onnxopt.files import hidden
from onnxopt.model_file import memory
from onnxopt.model_file.save import Proof, external_files, refuse_existing, stamped


def shared_data(paths: Iterable[Path]) -> Path | None:
    """Return the file in which all of these model files have weights; None without one, or for a single model."""
    found = [set(external_files(path)) for path in paths]
    common = set.intersection(*found) if len(found) > 1 else set[Path]()
    return min(common, default=None)


def by_data(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Return model files in groups: those that have weights in the same first file, and the others alone."""
    groups = dict[Path, list[Path]]()
    for path in paths:
        groups.setdefault(next(iter(external_files(path)), path), []).append(path)
    return [tuple(group) for group in groups.values()]


def size_together(paths: Iterable[Path]) -> int:
    """Return the bytes of model files and their weights; a file of several models counts once."""
    return sum(file.stat().st_size for file in {file for path in paths for file in (path, *external_files(path))})


def save_together(
    models: Mapping[str, ir.Model],
    folder: Path,
    data_name: str,
    *,
    provenance: Mapping[str, Mapping[str, str]],
    proofs: Mapping[str, Proof],
) -> tuple[Path, ...]:
    """Save models in a folder, with the weights of all in one file there.

    Args:
        models: the models by the name of their file.
        folder: the folder, which has none of the files.
        data_name: the name of the file with the weights.
        provenance: metadata that is added under `onnxopt.*`, by the name of the file.
        proofs: called with each temporary file before it is renamed; if one raises, nothing is written.

    Returns:
        The model files.

    Raises:
        FileError: ONX502 a file exists, ONX503 one cannot be written.
        ModelError: ONX303 a file that weights are read from is missing, or shorter than it was.
    """
    for name in (*models, data_name):
        refuse_existing(folder / name, overwrite=False)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=hidden(data_name)) as place:
            part = Path(place)
            named = {part / name: stamped(model, provenance[name]) for name, model in models.items()}
            memory.write_all_with_data(named, part / data_name)
            for file in (part / data_name, *named):
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            for name, proof in proofs.items():
                proof(part / name)
            # Weights first: a model file never names weights that are not there yet.
            for name in (data_name, *models):
                (part / name).replace(folder / name)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError(
            "ONX503", "cannot write the output", where=str(folder), why=why, hint="Free some space."
        ) from error
    return tuple(folder / name for name in models)
