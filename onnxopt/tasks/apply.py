"""One explicit pipeline on one model: apply, check and save, without a search."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes, parse
from onnxopt.document import units
from onnxopt.document.blocks import Displayed, Document, Text
from onnxopt.measure.runtime.written import proof
from onnxopt.model_file import Given, given, signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.pipeline import Context, Optimized, Pass, Pipeline, StageProgress
from onnxopt.record.provenance import provenance
from onnxopt.record.steps import frequent_reasons, step_data, steps_table
from onnxopt.samples import ReadOptions, Samples, open_samples
from onnxopt.search.parts import split_parts
from onnxopt.target import target_of


@dataclass(frozen=True)
class Made(Displayed):
    """A model made by one pipeline.

    Attributes:
        passes: the passes as text.
        optimized: the model and the edits and skips of each step.
        size_before: bytes of the model's files.
        size_after: likewise.
        files: written files, the `.onnx` file first; empty without an output path.
        source: file of the input model; None for a model in memory.
        note: reason for the passes, where measurements chose them.
        judged: rule for judging results in that choice, with its reason.
    """

    passes: str
    optimized: Optimized
    size_before: int
    size_after: int
    files: tuple[Path, ...]
    source: Path | None = None
    note: str = ""
    judged: str = ""

    @property
    def model(self) -> ir.Model:
        """The resulting model."""
        return self.optimized.model

    @property
    def document(self) -> Document:
        """The edits and skips of each step."""
        return made_document(self.source or Path("the model"), self)


def apply(
    model: Given,
    passes: str | Sequence[Pass],
    data: object = None,
    *,
    out: str | Path | None = None,
    labels: object = None,
    calibration_part: bool = False,
    limit: int | None = None,
    target: str = "auto",
    teacher: Given | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: StageProgress | None = None,
) -> Made:
    """Apply `passes` (text such as `simplify,quantize-static{method=mse}`) in order, and save the result.

    Args:
        model: the input model (not modified).
        passes: the pipeline.
        data: calibration samples, for passes that need them.
        out: file to write; None for none.
        labels: one per sample, if `data` has none.
        calibration_part: calibrate on the same part of `data` as `optimize`, instead of on all of it.
        limit: largest number of samples of `data`.
        target: target processor.
        teacher: reference model of passes that train; None for `model` itself.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        dry_run: run the passes without saving the result.
        progress: called with the step, the finished and the total amount.

    Raises:
        OnnxoptError: ONX1xx usage, ONX2xx data, ONX3xx model, ONX4xx runtime, ONX5xx files; no file is written then.
    """
    chosen = parse(passes) if isinstance(passes, str) else tuple(passes)
    context_target = target_of(target)
    model = given(model)
    source = None if isinstance(model, ir.Model) else model
    if out is not None:
        read_too = (data, labels, teacher)
        refuse_output_file(Path(out), overwrite=overwrite, source=source, read=read_too)
    loaded = model_file.as_graph(model)
    calibration: Samples | None = None
    if data is not None:
        calibration = open_samples(data, signature_of(loaded), labels=labels, options=read, limit=limit)
        if calibration_part:
            calibration = split_parts(calibration, None, seed).calibration
    before = model_file.size_of(model)
    taught_by = None if teacher is None else model_file.as_graph(teacher)
    context = Context(context_target, calibration, teacher=taught_by, seed=seed)
    if progress is not None:
        context = replace(context, progress=progress)
    optimized = Pipeline(chosen).run(loaded, context)
    out = None if dry_run else out
    return saved(chosen, optimized, before, source, out=out, looked_at=proof(loaded, calibration), overwrite=overwrite)


def saved(
    passes: tuple[Pass, ...],
    optimized: Optimized,
    before: int,
    source: Path | None,
    *,
    out: str | Path | None,
    looked_at: Callable[[Path], None],
    overwrite: bool,
    note: str = "",
    judged: str = "",
) -> Made:
    """Return the result of a pipeline, saved as `out`; None for no file."""
    text, files = format_passes(passes), tuple[Path, ...]()
    if out is not None:
        about = provenance(text, source)
        files = model_file.save(optimized.model, out, overwrite=overwrite, provenance=about, proof=looked_at)
    size = model_file.size_of(files[0] if files else optimized.model)
    return Made(text, optimized, before, size, files, source, note, judged)


def made_document(model: Path, made: Made) -> Document:
    """Return the edits and skips on `model`, step by step."""
    steps = made.optimized.steps
    lines = [
        f"Size of {model}: {units.size(made.size_before)} before, {units.size(made.size_after)} after "
        f"({units.smaller(made.size_before / max(made.size_after, 1))})."
    ]
    lines += [made.note] if made.note else []
    lines += frequent_reasons(skip for step in steps for skip in step.skipped)
    if made.files:
        pair = " ".join(shlex.quote(str(file)) for file in (model, made.files[0]))
        lines.append(f"Written: {', '.join(map(str, made.files))}. Next: onnxopt compare {pair} --data SAMPLES")
    else:
        lines.append("Dry run: nothing was written.")
    data = {
        "passes": made.passes,
        "note": made.note,
        "judged": made.judged,
        "steps": [step_data(step) for step in steps],
        "size_before_bytes": made.size_before,
        "size_after_bytes": made.size_after,
        "files": [str(file) for file in made.files],
    }
    first = (Text((made.judged,)),) if made.judged else ()
    return Document((*first, steps_table(steps), Text(tuple(lines))), data)
