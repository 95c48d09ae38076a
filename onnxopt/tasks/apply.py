"""One explicit pipeline on one model: apply, check and save, without a search."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes, make_pass, parse
from onnxopt.document import units
from onnxopt.document.blocks import Document, Text
from onnxopt.errors import UsageError, nearest
from onnxopt.graph.lint import QUANTIZED_ALREADY, is_quantized
from onnxopt.measure.runtime.written import proof
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, given, signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.options.choices import Effort, Mode
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Need, Optimized, Pass, Pipeline, Progress
from onnxopt.record.provenance import provenance
from onnxopt.record.steps import reasons, step_data, steps_table
from onnxopt.samples import ReadOptions, Samples, open_samples
from onnxopt.search.int8.choose import choose
from onnxopt.search.parts import split_parts
from onnxopt.target import target_of


@dataclass(frozen=True)
class Made:
    """A model made by one pipeline.

    Attributes:
        passes: as text.
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

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook."""
        return self.document._repr_html_()


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
    progress: Progress | None = None,
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
    return _saved(chosen, optimized, before, source, out, proof(loaded, calibration), overwrite=overwrite)


def _saved(
    passes: tuple[Pass, ...],
    optimized: Optimized,
    before: int,
    source: Path | None,
    out: str | Path | None,
    looked_at: Callable[[Path], None],
    *,
    overwrite: bool,
    note: str = "",
    judged: str = "",
) -> Made:
    text, files = format_passes(passes), tuple[Path, ...]()
    if out is not None:
        about = provenance(text, source)
        files = model_file.save(optimized.model, out, overwrite=overwrite, provenance=about, proof=looked_at)
    size = model_file.size_of(files[0] if files else optimized.model)
    return Made(text, optimized, before, size, files, source, note, judged)


def quantize(
    model: Given,
    data: object = None,
    *,
    out: str | Path | None = None,
    mode: Mode = "static",
    simplify: bool = True,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    tasks: TaskOptions | None = None,
    progress: Progress | None = None,
    **options: object,
) -> Made:
    """Simplify `model` and quantize it to INT8: `static` (needs data), `dynamic`, or `auto`.

    Args:
        model: the input model (not modified).
        data: calibration samples.
        out: file to write; None for none.
        mode: `static`, `dynamic`, or `auto`: the fastest measured form with a small error.
        simplify: whether to fold and fuse first, which lowers the quantization error.
        target: target processor.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        dry_run: run the passes without saving the result.
        tasks: with `auto`, as which tasks outputs are judged; None decides by evidence.
        progress: called with the step, the finished and the total amount.
        options: of the pass `quantize-static` or `quantize-dynamic`, such as `method="entropy"`; with `auto`, `effort`
            as `normal` or `high`.

    Raises:
        UsageError: ONX101 unknown mode or effort, ONX114 static or auto without data; and as `apply`.
    """
    if mode not in get_args(Mode):
        raise UsageError("ONX101", "unknown mode", where=str(mode), hint="It is auto, static or dynamic.")
    if mode == "auto":
        return _auto(model, out, options, data, target, seed, read, overwrite, dry_run, progress, tasks)
    quantizer = make_pass(f"quantize-{mode}", options)
    if data is None and Need.CALIBRATION in quantizer.needs:
        raise UsageError(
            "ONX114",
            "static quantization needs calibration samples",
            hint="Give them with --data, or use --mode dynamic.",
        )
    passes = (*((Simplify(),) if simplify else ()), quantizer)
    made = apply(
        model,
        passes,
        data,
        target=target,
        seed=seed,
        read=read,
        out=out,
        overwrite=overwrite,
        dry_run=dry_run,
        progress=progress,
    )
    why = _nothing(made)
    return replace(made, note=f"Nothing was quantized: {why}.") if why else made


def _nothing(made: Made) -> str:
    """Return why the last pass changed nothing, where that concerns the whole model."""
    last = made.optimized.steps[-1]
    if last.edits:
        return ""
    if any(map(is_quantized, made.model.graph)):
        return QUANTIZED_ALREADY
    return next((skip.reason for skip in last.skipped if skip.target == "graph"), "")


def _auto(
    model: Given,
    out: str | Path | None,
    options: Mapping[str, object],
    data: object,
    target: str,
    seed: int,
    read: ReadOptions | None,
    overwrite: bool,
    dry_run: bool,
    progress: Progress | None,
    tasks: TaskOptions | None,
) -> Made:
    effort = options.get("effort", "normal")
    for name in options:
        if name != "effort":
            raise UsageError("ONX102", "unknown option of mode auto", where=name, hint=nearest(name, ["effort"]))
    if effort not in get_args(Effort):
        raise UsageError("ONX101", "invalid option value", where="effort", why=f"{effort!r}", hint="normal or high.")
    if data is None:
        raise UsageError("ONX114", "--mode auto needs samples", hint="Give them with --data.")
    context = Context(target_of(target), seed=seed)
    model = given(model)
    source = None if isinstance(model, ir.Model) else model
    if out is not None:
        refuse_output_file(Path(out), overwrite=overwrite, source=source, read=[data])
    loaded = model_file.as_graph(model)
    samples = open_samples(data, signature_of(loaded), options=read)
    context = context if progress is None else replace(context, progress=progress)
    chosen = choose(loaded, samples, context, cast("Effort", effort), tasks)
    form, before = chosen.form, model_file.size_of(model)
    out = None if dry_run else out
    return _saved(
        form.passes,
        form.built,
        before,
        source,
        out,
        proof(loaded, samples),
        overwrite=overwrite,
        note=chosen.reason,
        judged=chosen.judged,
    )


def made_document(model: Path, made: Made) -> Document:
    """Return the edits and skips on `model`, step by step."""
    steps = made.optimized.steps
    lines = [
        f"Size of {model}: {units.size(made.size_before)} before, {units.size(made.size_after)} after "
        f"({units.smaller(made.size_before / max(made.size_after, 1))})."
    ]
    lines += [made.note] if made.note else []
    lines += reasons(skip for step in steps for skip in step.skipped)
    if made.files:
        lines.append(
            f"Written: {', '.join(map(str, made.files))}. Next: onnxopt compare {model} {made.files[0]} --data ..."
        )
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
