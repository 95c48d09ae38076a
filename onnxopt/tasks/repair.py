"""Quantized files made fast or small without data: faults found, mended, proved, measured, saved."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import NativeError, UsageError
from onnxopt.measure.equivalence import runnable
from onnxopt.measure.latency import Latency, drawn_inputs, measure_latency
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.runtime.written import proof
from onnxopt.model_file import Given, given, signature_of, size_bytes, size_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.pipeline import StageProgress
from onnxopt.record.provenance import provenance
from onnxopt.repairs.mending import Clock, Limits, Mended, mend
from onnxopt.repairs.witness import Witness, change
from onnxopt.samples import Feeds, ReadOptions, open_samples
from onnxopt.target import Target, detect, target_of
from onnxopt.tasks.bench_words import inputs_words
from onnxopt.tasks.benchmark_runs import inputs_of
from onnxopt.tasks.repaired import Repaired

MOST_CHANGE = 0.05
"""Of outputs, where a repair is not exact: about the noise of INT8 in a small network."""
_LONGER = (1, 3, 6)
"""Times of `seconds` that a pair is measured for, while other programs are in the way."""
_MADE_UP, _MORE, _GIVEN = 4, 12, 8
"""Batches that outputs are compared on: made up, more of them where they run fast, and given."""
_MORE_S = 1.0
"""Seconds that a run of those further batches may take, with optimizations off."""


def repair(
    model: Given,
    data: object = None,
    *,
    out: str | Path | None = None,
    target: str = "auto",
    max_change: float = MOST_CHANGE,
    seconds: float = 2.0,
    runtime: Runtime | None = None,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    seed: int = 0,
    progress: StageProgress | None = None,
    clock: Clock | None = None,
) -> Repaired:
    """Mend what makes a quantized file slow or large; every repair is proved and measured, or undone.

    Args:
        model: the input model (not modified).
        data: samples to compare and time on, beside made-up inputs; none are needed.
        out: file to write, if anything was mended; None for none.
        target: processor the result is for.
        max_change: the largest change of outputs, relative to their size (root mean square), by repairs that are not
            exact; 0 for none.
        seconds: seconds of timed runs per repair.
        runtime: configuration of the runtime in deployment.
        read: options for reading `data`.
        overwrite: whether `out` may exist.
        dry_run: do everything but save.
        seed: the seed of the order of runs.
        progress: called with how far it is.
        clock: measures instead of this machine's clock.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
        NativeError: ONX401 it runs neither on made-up inputs nor on those given.
        OnnxoptError: ONX2xx data, ONX3xx model, ONX4xx runtime, ONX5xx files; nothing is written.
    """
    if not 0 <= max_change < 1:
        why = f"{max_change} given"
        raise UsageError(
            "ONX101",
            "the largest change must be at least 0 and less than 1",
            where="max_change",
            why=why,
            hint="Give a share, such as 0.05.",
        )
    wanted, deployed = target_of(target), runtime or Runtime()
    model = given(model)
    source = None if isinstance(model, ir.Model) else model
    if out is not None:
        refuse_output_file(Path(out), overwrite=overwrite, source=source, read=[data])
    loaded = model_file.as_graph(model)
    batches, timed = _inputs(loaded, data, read)
    witness = Witness(loaded, batches, deployed)

    def measured(before: ir.Model, after: ir.Model) -> Latency:
        pair = {"before": before, "after": after}
        for longer in _LONGER:
            found = measure_latency(pair, timed, deployed, seconds=longer * seconds, seed=seed)["after"]
            if not found.unsure:
                break
        return found

    unmeasured = "" if clock else _unmeasured(wanted)
    limits = Limits(wanted, max_change, None if unmeasured else clock or measured, unmeasured)
    current, tried = loaded, list[Mended]()
    for mended, one in mend(loaded, witness, limits):
        current = mended
        tried.append(one)
        if progress is not None:
            progress("repairs", len(tried), len(limits.repairs))
    done = _result((loaded, size_of(model)), current, tuple(tried), witness, limits)
    done = replace(done, batches=len(batches), inputs=inputs_words(data, timed[0]), source=source)
    if not done.kept or out is None or dry_run:
        return done
    samples = None if data is None else open_samples(data, signature_of(loaded), options=read)
    about = provenance("repair " + ",".join(one.repair.code for one in done.kept), source)
    files = model_file.save(done.model, out, overwrite=overwrite, provenance=about, proof=proof(loaded, samples))
    return replace(done, files=files, size=(done.size[0], size_of(files[0])))


def _inputs(model: ir.Model, data: object, read: ReadOptions | None) -> tuple[list[Feeds], Sequence[Feeds]]:
    """Return the batches to compare outputs on, and those to time: the given ones, where there are some."""
    signature = signature_of(model)
    made_up = drawn_inputs(open_samples(inputs_of(model, None, Runtime()), signature, options=_made_up_as(read)), 1)
    own = () if data is None else drawn_inputs(open_samples(data, signature, options=read), 1)
    start = time.perf_counter()
    batches = [*runnable(model, signature, own[:_GIVEN]), *runnable(model, signature, made_up[:_MADE_UP])]
    more = int(_MORE_S * len(batches) / (time.perf_counter() - start))
    batches += runnable(model, signature, made_up[_MADE_UP : _MADE_UP + min(more, _MORE)])
    if not batches:
        raise _not_run(model, (*own, *made_up)[0])
    return batches, own or batches


def _made_up_as(read: ReadOptions | None) -> ReadOptions | None:
    """Return the options that apply to made-up inputs too: the size of images."""
    return None if read is None else ReadOptions(size=read.size, layout=read.layout)


def _not_run(model: ir.Model, feeds: Feeds) -> UsageError:
    """Return the reason why no repair of a model can be proved, in the runtime's words."""
    why = ""
    try:
        Session(model, Runtime(optimization="none")).run(feeds)
    except NativeError as error:
        why = error.why
    what = "the model runs on no input, so no repair can be proved"
    return UsageError("ONX114", what, why=why, hint="Give samples that it runs on with --data.")


def _unmeasured(target: Target) -> str:
    """Return the reason why times on this machine do not hold for `target`; "" if they do."""
    here = detect()
    if (here.activation_type, here.reduce_range) != (target.activation_type, target.reduce_range):
        return f"times are measured on {here.name}, not on {target.name}"
    return emulator() or ""


def _result(
    source: tuple[ir.Model, int], current: ir.Model, tried: tuple[Mended, ...], witness: Witness, limits: Limits
) -> Repaired:
    """Return the result, measured beside the file that was given; that file itself where it is not better."""
    original, before = source
    size = before, size_bytes(current)
    target = limits.target.name
    if not any(one.kept for one in tried):
        why = "no repair helps" if tried else "none of the faults that can be mended is in it"
        return Repaired(
            original, tried, (size[0], size[0]), None, 0.0, 0.0, 0, f"{why}: the original is kept", target=target
        )
    moved = change(witness.truth, witness.plain(current))
    deployed = change(witness.truth, witness.deployed(current))
    if limits.clock is None:
        reason = f"not measured: {limits.unmeasured}"
        return Repaired(current, tried, size, None, moved, deployed, 0, reason, target=target)
    kept = [one for one in tried if one.kept]
    speed = kept[0].speed if len(kept) == 1 else limits.clock(original, current).speedup
    if speed is not None and (speed.low > 1 or (size[1] < size[0] and speed.high >= 1)):
        return Repaired(current, tried, size, speed, moved, deployed, 0, "", target=target)
    undone = "all repairs together are neither faster beyond doubt nor smaller"
    tried = tuple(replace(one, kept=False, reason=undone) if one.kept else one for one in tried)
    why = f"{undone}: the original is kept"
    return Repaired(original, tried, (size[0], size[0]), speed, 0.0, 0.0, 0, why, target=target)
