"""A published folder of one model, optimized: the best model under the old name, with the side files."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxopt import model_file
from onnxopt.errors import FileError, UsageError, first_line
from onnxopt.model_file.save import external_files
from onnxopt.options.reading import ReadOptions
from onnxopt.run.finished import Run
from onnxopt.run.optimize import optimize
from onnxopt.samples.tokenizer import TOKENIZER
from onnxopt.tasks.variants.layout import baselines_of, families_of
from onnxopt.tasks.variants.side_files import copy_files, side_files

WHOLE = "model"
"""Name of the folder in the run folder."""


@dataclass(frozen=True)
class OptimizedFolder:
    """A folder whose model was searched for a better one.

    Attributes:
        run: of the search.
        out: the new folder, beside best.onnx; None without a winner.
    """

    run: Run
    out: Path | None


def optimize_folder(
    folder: str | Path,
    data: object,
    *,
    out: str | Path = "onnxopt-run",
    read: ReadOptions | None = None,
    **options: Any,
) -> OptimizedFolder:
    """Find the best model of a published folder with one model, and write the folder again with it.

    Args:
        folder: layout of sentence-transformers or transformers.js: the float32 file is in it or in its `onnx` folder.
        data: samples for evaluation, as of `onnxopt.optimize`.
        out: run folder to write; the new folder is `model` in it.
        read: options of the data readers; the vocabulary is the folder's tokenizer.json unless it names one.
        options: further arguments of `onnxopt.optimize`.

    Raises:
        FileError: ONX501 there is no folder or no float32 model in it, ONX502 the new folder exists, ONX503 it cannot
            be written.
        UsageError: ONX112 the folder has several models.
        OnnxoptError: as of `onnxopt.optimize`.
    """
    folder, out = Path(folder), Path(out)
    model = only_model(folder)
    refuse_whole(out)
    run = optimize(model, data, out=out, read=with_tokenizer(folder, read), **options)
    return OptimizedFolder(run, write_whole(run.folder, folder, model) if run.won else None)


def only_model(folder: Path) -> Path:
    """Return the float32 model of a folder.

    Raises:
        FileError: ONX501 there is none, ONX505 the folder cannot be read.
        UsageError: ONX112 there are several.
    """
    models = baselines_of(families_of(folder))
    if not models:
        raise FileError("ONX501", "there is no float32 model in the folder", where=str(folder), hint="Name another.")
    if len(models) > 1:
        names = ", ".join(sorted(path.relative_to(folder).as_posix() for path in models))
        hint = "Optimize them one by one, or quantize the whole folder: onnxopt quantize FOLDER --mode dynamic."
        raise UsageError("ONX112", "a search takes one model", where=str(folder), why=f"it has {names}", hint=hint)
    return models[0]


def with_tokenizer(folder: Path, read: ReadOptions | None) -> ReadOptions:
    """Return the options of reading with the folder's tokenizer, if it has one and they name none."""
    options, own = read or ReadOptions(), folder / TOKENIZER
    return replace(options, vocab=str(own)) if options.vocab is None and own.is_file() else options


def refuse_whole(run: Path) -> None:
    """Refuse a run folder that has such a folder already; raises FileError ONX502."""
    if (run / WHOLE).exists():
        hint = "Remove it, or choose another --out."
        raise FileError("ONX502", "the output exists", where=str(run / WHOLE), hint=hint)


def write_whole(run: Path, folder: Path, model: Path) -> Path:
    """Write `folder` again with the run's best model in the place of `model`, whole or not at all; return its path.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written, ONX505 a side file cannot be read.
    """
    refuse_whole(run)
    out, best = run / WHOLE, run / "best.onnx"
    own = run.resolve()
    sides = [file for file in side_files(folder, below=True) if not file.resolve().is_relative_to(own)]
    try:
        with tempfile.TemporaryDirectory(dir=run, prefix=f".{WHOLE}.") as place:
            part = Path(place) / "part"
            target = part / model.relative_to(folder)
            target.parent.mkdir(parents=True)
            copy_files(sides, folder, part)
            if external_files(best):
                data = [file.name for file in external_files(model)]
                model_file.save(model_file.load(best), target, data_name=data[0] if len(data) == 1 else None)
            else:
                shutil.copyfile(best, target)
            part.replace(out)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError("ONX503", "cannot write the output", where=str(out), why=why) from error
    return out
