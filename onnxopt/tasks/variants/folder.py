"""A folder of several models, such as encoder and decoder, quantized as one: names and side files stay."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from onnxopt import model_file
from onnxopt.catalog import format_passes, make_pass
from onnxopt.document import units
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import FileError, first_line
from onnxopt.files import hidden
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.measure.runtime.written import proof
from onnxopt.model_file.save import external_files
from onnxopt.model_file.writable import refuse_unwritable
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pass, Pipeline, StageProgress
from onnxopt.record.provenance import provenance
from onnxopt.record.steps import frequent_reasons, step_data
from onnxopt.target import target_of
from onnxopt.tasks.apply import Made
from onnxopt.tasks.variants.layout import baselines_of, families_of
from onnxopt.tasks.variants.shown import name_in
from onnxopt.tasks.variants.side_files import copy_files, side_files


@dataclass(frozen=True)
class MadeFolder(Displayed):
    """A folder of models made by one pipeline.

    Attributes:
        out: the folder that was written; None for a dry run.
        made: the result for each model.
        copied: the side files in `out`.
        document: one row per model.
    """

    out: Path | None
    made: tuple[Made, ...]
    copied: tuple[Path, ...]
    document: Document = field(repr=False)


def quantize_folder(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    simplify: bool = True,
    target: str = "auto",
    seed: int = 0,
    progress: StageProgress | None = None,
    **options: object,
) -> MadeFolder:
    """Quantize each float32 model of a folder dynamically, under the same names, and copy the side files.

    Args:
        folder: the folder of the models, such as `encoder_model.onnx` and `decoder_model_merged.onnx`; those in
            its `onnx` folder count too. Files of other types (`model_q4.onnx`) and weights of other frameworks are left
            out.
        out: folder to write, whole or not at all; None for none.
        simplify: whether to fold and fuse first, which lowers the quantization error.
        target: target processor.
        seed: random seed.
        progress: called with the step, the finished and the total amount.
        options: options of the pass `quantize-dynamic`, such as `per_channel=False`.

    Raises:
        FileError: ONX501 to ONX505 the folder cannot be read, or `out` exists, cannot be written or lies inside it.
        UsageError: ONX102 an unknown option.
        ModelError: ONX3xx a model cannot be used.
    """
    folder = Path(folder)
    passes = (*((Simplify(),) if simplify else ()), make_pass("quantize-dynamic", options))
    context = Context(target_of(target), seed=seed)
    models = baselines_of(families_of(folder))
    if not models:
        raise FileError("ONX501", "there is no float32 model in the folder", where=str(folder), hint="Name another.")
    if out is None:
        made = [_built(path, passes, context) for path in _counted(models, progress)]
        return _result(folder, None, made, ())
    out = Path(out)
    refuse_new_folder(out, folder)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=hidden(out.name)) as place:
            part = Path(place) / "part"
            part.mkdir()
            copied = copy_files(side_files(folder, below=True), folder, part)
            made = _saved(models, passes, context, _Places(folder, part), progress)
            part.replace(out)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError("ONX503", "cannot write the output", where=str(out), why=why) from error
    return _result(
        folder, out, [_moved(one, part, out) for one in made], tuple(out / f.relative_to(part) for f in copied)
    )


def refuse_new_folder(out: Path, folder: Path, *, made: bool = False) -> None:
    """Refuse a folder to write that is there, or lies in the one that is read.

    Args:
        out: the new folder.
        folder: the folder that is read.
        made: whether the folder around `out` is made with it.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written, ONX504 it is inside `folder`.
    """
    if out.exists():
        hint = "Choose another name: a folder is written whole or not at all."
        raise FileError("ONX502", "the output exists", where=str(out), hint=hint)
    if out.resolve().is_relative_to(folder.resolve()):
        raise FileError(
            "ONX504", "the output lies inside the folder that is read", where=str(out), hint="Choose another."
        )
    if made and not out.parent.exists():
        refuse_unwritable(out.parent)
        return
    if not out.parent.is_dir():
        why, hint = f"there is no folder {out.parent}", "Make it first, or choose another."
        raise FileError("ONX503", "cannot write the output", where=str(out), why=why, hint=hint)
    refuse_unwritable(out.parent)


def _counted(models: list[Path], progress: StageProgress | None) -> Iterable[Path]:
    for number, path in enumerate(models):
        if progress is not None:
            progress("models", number, len(models))
        yield path


class _Places(NamedTuple):
    """The folder that is read, and the one that is written."""

    folder: Path
    part: Path


def _saved(
    models: list[Path], passes: tuple[Pass, ...], context: Context, places: _Places, progress: StageProgress | None
) -> list[Made]:
    """Make and save models; those that have their weights in one file do so again."""
    found, groups = list[Made](), model_file.by_data(models)
    counted = iter(_counted([path for group in groups for path in group], progress))
    for group in groups:
        built = [_built(path, passes, context) for path in islice(counted, len(group))]
        place = places.part / group[0].parent.relative_to(places.folder)
        place.mkdir(parents=True, exist_ok=True)
        data = model_file.shared_data(group)
        found += [_alone(built[0], place)] if data is None else _together(built, place, data.name)
    return found


def _built(path: Path, passes: tuple[Pass, ...], context: Context) -> Made:
    survive_loading(path)
    done = Pipeline(passes).run(model_file.load(path), context)
    size = model_file.size_of(done.model)
    return Made(format_passes(passes), done, model_file.size_of(path), size, (), path)


def _alone(made: Made, place: Path) -> Made:
    assert made.source is not None
    data = [file.name for file in external_files(made.source)]
    files = model_file.save(
        made.optimized.model,
        place / made.source.name,
        provenance=provenance(made.passes, made.source),
        proof=proof(model_file.load(made.source)),
        data_name=data[0] if len(data) == 1 else None,
    )
    return replace(made, size_after=model_file.size_of(files[0]), files=files)


def _together(made: Sequence[Made], place: Path, data_name: str) -> list[Made]:
    by_name = {one.source.name: (one, one.source) for one in made if one.source is not None}
    files = model_file.save_together(
        {name: one.optimized.model for name, (one, _) in by_name.items()},
        place,
        data_name,
        provenance={name: provenance(one.passes, source) for name, (one, source) in by_name.items()},
        proofs={name: proof(model_file.load(source)) for name, (_, source) in by_name.items()},
    )
    return [
        replace(one, size_after=model_file.size_of(file), files=(file, place / data_name))
        for one, file in zip(made, files, strict=True)
    ]


def _moved(made: Made, part: Path, out: Path) -> Made:
    files = tuple(out / file.relative_to(part) for file in made.files)
    return replace(made, files=files)


def _result(folder: Path, out: Path | None, made: list[Made], copied: tuple[Path, ...]) -> MadeFolder:
    columns = (Column("model"), *(Column(t, number=True) for t in ("before", "after", "smaller", "quantized", "left")))
    rows = tuple(_row(folder, one) for one in made)
    before = model_file.size_together(m.source for m in made if m.source is not None)
    after = sum(m.size_after for m in made) if out is None else model_file.size_together(m.files[0] for m in made)
    skips = (skip for one in made for step in one.optimized.steps for skip in step.skipped)
    lines = [
        f"Together: {units.size(before)} before, {units.size(after)} after ({units.smaller(before / max(after, 1))}).",
        *frequent_reasons(skips),
        "Dry run: nothing was written."
        if out is None
        else f"Written: {out}, with {units.many(len(copied), 'side file')}.",
    ]
    content = {
        "out": None if out is None else str(out),
        "copied": list(map(str, copied)),
        "models": [
            {
                "model": str(one.source),
                "passes": one.passes,
                "size_before_bytes": one.size_before,
                "size_after_bytes": one.size_after,
                "files": list(map(str, one.files)),
                "steps": [step_data(step) for step in one.optimized.steps],
            }
            for one in made
        ],
    }
    return MadeFolder(out, tuple(made), copied, Document((Table(columns, rows), Text(tuple(lines))), content))


def _row(folder: Path, made: Made) -> tuple[str, ...]:
    last = made.optimized.steps[-1]
    ratio = made.size_before / max(made.size_after, 1)
    sizes = (units.size(made.size_before), units.size(made.size_after), units.times(ratio))
    name = str(made.source) if made.source is None else name_in(made.source, folder)
    return (name, *sizes, str(len(last.edits)), str(len(last.skipped)))
