"""INT8 of one model: by one pass, or in the fastest form that was measured to stay close."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import make_pass
from onnxopt.errors import UsageError, nearest
from onnxopt.graph.lint import QUANTIZED_ALREADY, is_quantized
from onnxopt.measure.runtime.written import proof
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, given, signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.options.choices import Effort, Mode, refuse_non_positive
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Need, Optimized, StageProgress
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.search.int8.choose import fastest_int8
from onnxopt.target import target_of
from onnxopt.tasks.apply import Made, apply, saved
from onnxopt.tasks.generation.cache import with_cache_of

LIMIT_S = 600.0
"""Default time limit of mode auto with normal effort, in seconds."""


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
    progress: StageProgress | None = None,
    **options: object,
) -> Made:
    """Simplify `model` and quantize it to INT8: `static` (needs data), `dynamic`, or `auto`; or only a decoder's cache.

    Args:
        model: the input model (not modified).
        data: calibration samples.
        out: file to write; None for none.
        mode: `static`, `dynamic`, `auto`: the fastest measured form with a small error, or `cache`: the keys and values
            that a decoder with GroupQueryAttention keeps.
        simplify: whether to fold and fuse first, which lowers the quantization error.
        target: target processor.
        seed: random seed.
        read: options of the data readers.
        overwrite: whether to replace an existing `out`.
        dry_run: run the passes without saving the result.
        tasks: the tasks as which `auto` judges outputs; None decides by evidence.
        progress: called with the step, the finished and the total amount.
        options: options of the pass `quantize-static` or `quantize-dynamic`, such as `method="entropy"`; with `auto`,
            `effort` as `normal` or `high` and `time_limit` in seconds; with `cache`, `bits` as 8 or 4.

    Raises:
        UsageError: ONX101 unknown mode or effort, or a time limit that is not above 0, ONX112 the model has no cache of
            GroupQueryAttention, ONX114 static, auto or cache without data; and as `apply`.
    """
    if mode not in get_args(Mode):
        raise UsageError("ONX101", "unknown mode", where=str(mode), hint="It is auto, static, dynamic or cache.")
    if mode == "cache":
        return _cache(model, out, options, data, read=read, overwrite=overwrite, dry_run=dry_run, progress=progress)
    if mode == "auto":
        return _auto(
            model,
            out,
            options,
            data,
            target=target,
            seed=seed,
            read=read,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
            tasks=tasks,
        )
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


def _cache(
    model: Given,
    out: str | Path | None,
    options: Mapping[str, object],
    data: object,
    *,
    read: ReadOptions | None,
    overwrite: bool,
    dry_run: bool,
    progress: StageProgress | None,
) -> Made:
    for name in options:
        if name != "bits":
            raise UsageError("ONX102", "unknown option of mode cache", where=name, hint=nearest(name, ["bits"]))
    if data is None:
        raise UsageError("ONX114", "--mode cache needs texts", hint="Give them with --data.")
    model = given(model)
    source = None if isinstance(model, ir.Model) else model
    if out is not None:
        refuse_output_file(Path(out), overwrite=overwrite, source=source, read=[data])
    loaded = model_file.as_graph(model)
    made, note = with_cache_of(loaded, data, cast("int", options.get("bits", 8)), read=read, progress=progress)
    return saved(
        (),
        Optimized(made, ()),
        model_file.size_of(model),
        source,
        out=None if dry_run else out,
        looked_at=proof(made),
        overwrite=overwrite,
        note=note,
    )


def _nothing(made: Made) -> str:
    """Return the reason why the last pass changed nothing, if it concerns the whole model."""
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
    *,
    target: str,
    seed: int,
    read: ReadOptions | None,
    overwrite: bool,
    dry_run: bool,
    progress: StageProgress | None,
    tasks: TaskOptions | None,
) -> Made:
    effort, limit_s = _auto_options(options)
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
    chosen = fastest_int8(loaded, samples, context, effort, tasks, time_limit=limit_s)
    form, before = chosen.form, model_file.size_of(model)
    out = None if dry_run else out
    return saved(
        form.passes,
        form.built,
        before,
        source,
        out=out,
        looked_at=proof(loaded, samples),
        overwrite=overwrite,
        note=chosen.reason,
        judged=chosen.judged,
    )


def _auto_options(options: Mapping[str, object]) -> tuple[Effort, float | None]:
    """Return effort and time limit of mode auto."""
    for name in options:
        if name not in ("effort", "time_limit"):
            hint = nearest(name, ["effort", "time_limit"])
            raise UsageError("ONX102", "unknown option of mode auto", where=name, hint=hint)
    effort = options.get("effort", "normal")
    if effort not in get_args(Effort):
        raise UsageError("ONX101", "invalid option value", where="effort", why=f"{effort!r}", hint="normal or high.")
    limit_s = cast("float | None", options.get("time_limit", LIMIT_S if effort == "normal" else None))
    refuse_non_positive(time_limit=limit_s)
    return cast("Effort", effort), limit_s
