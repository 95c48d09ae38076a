"""The files of a convention, made from the float32 file, judged as they were written, and kept unless broken."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.document.blocks import Displayed, Document, Text
from onnxopt.errors import FileError, first_line
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.model_file import atomic_write_text
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.tasks import TaskOptions
from onnxopt.passes.approximate_gelu import ApproximateGelu
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Optimized, Pipeline, StageProgress, Step
from onnxopt.record.provenance import provenance
from onnxopt.run.job import budget_of
from onnxopt.target import target_of
from onnxopt.tasks.variants.conventions import convention_of
from onnxopt.tasks.variants.plan import Planned, planned, refuse
from onnxopt.tasks.variants.reference import Opened, Terms
from onnxopt.tasks.variants.shown import card_text, file_data, files_table, name_in
from onnxopt.tasks.variants.side_files import CARD, copy_files, side_files
from onnxopt.tasks.variants.together import opened_beside
from onnxopt.tasks.variants.verdict import JudgedFile, Standing

_MAY_BE_IDLE = (Simplify, ApproximateGelu)
"""Passes without which a file is what its name says all the same, where the model has nothing for them."""


@dataclass(frozen=True)
class MadeFile:
    """A file of a convention that was made.

    Attributes:
        judged: its figures and the verdict.
        passes: the pipeline that made it.
        files: written files, the `.onnx` file first; empty for a broken one, which is not kept.
    """

    judged: JudgedFile
    passes: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Variants(Displayed):
    """The files of a convention beside a model.

    Attributes:
        made: each file that a pipeline made.
        left: files that were not made, and why.
        card: the file with the block for a model card; None if no file was kept.
        passed: whether no file was broken.
        document: one row per file, with the reasons.
    """

    made: tuple[MadeFile, ...]
    left: dict[str, str]
    card: Path | None
    passed: bool
    document: Document = field(repr=False)


def variants(
    model: str | Path,
    convention: str,
    data: object = None,
    *,
    out: str | Path | None = None,
    only: Sequence[str] | None = None,
    max_drop: str | float | None = None,
    tasks: TaskOptions | None = None,
    runtime: Runtime | None = None,
    read: ReadOptions | None = None,
    limit: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: StageProgress | None = None,
) -> Variants:
    """Write the files of a convention beside a model; each is loaded, run and compared, and a broken one is not kept.

    Args:
        model: the float32 file.
        convention: `transformers.js`, `sentence-transformers` or `genai`.
        data: samples to run the files on; None for made-up inputs.
        out: folder to write to; None for that of the model.
        only: types of the convention, such as `q8`; None for all.
        max_drop: largest drop of fidelity of a good file: `1pp` (points) or `1%`; None for 1pp.
        tasks: the tasks as which outputs are judged; None decides by evidence.
        runtime: configuration of ONNX Runtime.
        read: options of the data readers.
        limit: largest number of samples.
        seed: the seed of intervals.
        overwrite: whether files may exist.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 an unknown convention or type, ONX114 the model runs on no made-up input.
        OnnxoptError: ONX2xx data, ONX3xx model, ONX4xx runtime, ONX5xx files.
    """
    model, chosen = Path(model), convention_of(convention)
    folder = model.parent if out is None else Path(out)
    budget_of(max_drop, None)
    plans = planned(model, chosen, folder, only)
    graph = model_file.load(model)
    refuse(model, chosen, folder, plans, overwrite=overwrite, data=data)
    survive_loading(model)
    opened = opened_beside(model, Terms(data, max_drop, tasks, runtime, read, limit, seed))
    made, left, results = list[MadeFile](), dict[str, str](), dict[str, Optimized]()
    for number, plan in enumerate(plans, 1):
        passes, name = plan.passes(graph), name_in(plan.path, folder)
        if not passes:
            left[name] = plan.variant.why
            continue
        result = results[passes] = results.get(passes) or _result(graph, passes)
        idle = next((s for s in result.steps if not s.edits and not isinstance(s.spec, _MAY_BE_IDLE)), None)
        if idle is not None:
            left[name] = _nothing(idle)
            continue
        made.append(_written(plan, passes, result.model, opened, model, overwrite=overwrite))
        if chosen.folders and made[-1].files:
            made[-1] = _with_side_files(made[-1], model, overwrite=overwrite)
        if progress is not None:
            progress("variants", number, len(plans))
    kept = [one for one in made if one.files]
    card = folder / CARD if kept else None
    if card is not None:
        text = card_text(model, [(one.judged, one.passes) for one in kept], left, opened)
        atomic_write_text(card, text, overwrite=overwrite)
    document = _document(model, folder, opened, made=made, left=left, card=card)
    return Variants(tuple(made), left, card, len(kept) == len(made), document)


def _result(model: ir.Model, passes: str) -> Optimized:
    # Types and ranges are in the passes, so that the files do not depend on this machine.
    return Pipeline(parse(passes)).run(model, Context(target_of("auto")))


def _nothing(step: Step) -> str:
    skipped = step.skipped
    why = next((skip.reason for skip in skipped if skip.target == "graph"), "")
    return why or f"no layer can be quantized: {skipped[0].reason}" if skipped else "no layer can be quantized"


class _RefusedError(Exception):
    """The file that is about to take its place is broken."""


def _written(
    plan: Planned, passes: str, result: ir.Model, opened: Opened, source: Path, *, overwrite: bool
) -> MadeFile:
    """Write a file and judge it before it takes its place."""
    found = list[JudgedFile]()

    def look(path: Path) -> None:
        found.append(opened.judged(path, plan.variant.label, name=plan.path))
        if found[-1].broken:
            raise _RefusedError

    fresh = not plan.path.parent.exists()
    about = provenance(passes, source)
    try:
        _make_folder(plan.path.parent)
        files = model_file.save(
            result, plan.path, overwrite=overwrite, provenance=about, proof=look, data_name=plan.data_name
        )
    except _RefusedError:
        files = ()
    finally:
        if fresh:
            with suppress(OSError):  # it holds a file by now
                plan.path.parent.rmdir()
    return MadeFile(found[-1], passes, files)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise FileError("ONX503", "cannot write the output", where=str(folder), why=why) from error


def _with_side_files(made: MadeFile, model: Path, *, overwrite: bool) -> MadeFile:
    files, target = side_files(model.parent), made.judged.path.parent
    copies = copy_files(files, model.parent, target, overwrite=overwrite)
    return MadeFile(made.judged, made.passes, (*made.files, *copies))


def _document(
    model: Path, folder: Path, opened: Opened, *, made: Sequence[MadeFile], left: dict[str, str], card: Path | None
) -> Document:
    baseline = JudgedFile(model, "", True, Standing.BASELINE, "", opened.size_bytes)
    lines = [opened.words]
    for one in made:
        name = name_in(one.judged.path, folder)
        if not one.files:
            lines.append(f"{name} was not written, because it is broken: {one.judged.reason}.")
        elif one.judged.reason:
            lines.append(f"{name} is {one.judged.standing.value}: {one.judged.reason}.")
    lines += [f"{name} was not made, because {why}." for name, why in left.items()]
    lines.append("Nothing was written." if card is None else f"The block for a model card is in {card}.")
    content = {
        "model": str(model),
        "passed": all(one.files for one in made),
        "card": None if card is None else str(card),
        "made": [
            {**file_data(one.judged), "passes": one.passes, "files": [str(file) for file in one.files]} for one in made
        ],
        "not_made": left,
    }
    table = files_table([baseline, *(one.judged for one in made)], folder)
    return Document((table, Text(tuple(lines))), content)
