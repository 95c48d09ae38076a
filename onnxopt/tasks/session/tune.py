"""The use case: settings searched, outputs compared, the chosen file and session.json written beside the model."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from onnxopt import model_file
from onnxopt.errors import FileError, UsageError, first_line, nearest
from onnxopt.measure.forms.axes import AXES, Bench
from onnxopt.measure.forms.code import lines_for
from onnxopt.measure.forms.deployment import Deployment, names_of
from onnxopt.measure.forms.figures import UNITS, Clock, MachineClock
from onnxopt.measure.forms.load import this_machine
from onnxopt.measure.forms.outputs import TOLERANCE, comparison
from onnxopt.measure.forms.session_file import NAME, SessionFile, SessionGain, plain_name, session_settings
from onnxopt.measure.forms.tuning import CHOSEN, DEFAULT, Tuning, tuned
from onnxopt.measure.latency import drawn_inputs
from onnxopt.measure.runtime.environment import physical_cores
from onnxopt.model_file import signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.options.choices import SessionGoal, refuse_non_positive
from onnxopt.options.runtime import FullRuntime, Runtime
from onnxopt.pipeline import StageProgress
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.tasks.benchmark_runs import inputs_of
from onnxopt.tasks.session.tuned import TunedSession

COMPARED = 4
"""Inputs that outputs are compared on."""


def tune_session(
    model: str | Path,
    data: object = None,
    *,
    goal: SessionGoal = "latency",
    out: str | Path | None = None,
    threads: int | None = None,
    processes: int | None = None,
    seconds: float = 5.0,
    overwrite: bool = False,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: StageProgress | None = None,
) -> TunedSession:
    """Search the settings of ONNX Runtime's session for a finished model, and write them as session.json beside it.

    A setting is kept only if it is significantly better, with equal outputs up to the order of float additions.

    Args:
        model: the file (not modified).
        data: samples to run on; None for made-up inputs.
        goal: `latency`: one run, as called; `cold-start`: load and first run in a fresh process; `memory`: private
            memory of such a process; `throughput`: samples per second of several processes.
        out: file to write, in the folder of the model; None for session.json.
        threads: most compute threads, and those of the default settings; None for the physical cores.
        processes: the number of processes at once, with `throughput` as the goal; None for as many as physical cores.
        seconds: seconds of timed runs per comparison of choices, for `latency` and `throughput`.
        overwrite: whether the files may exist.
        read: options of the data readers.
        seed: the seed of made-up inputs and of the order of runs.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 a value is out of range, ONX112 `processes` does not apply.
        FileError: ONX501 there is no model, ONX502 an output exists, ONX503 it cannot be written.
        NativeError: ONX401 the model cannot be run, ONX403 the processor is emulated.
        OnnxoptError: ONX2xx data, ONX3xx model.
    """
    path = Path(model)
    _refuse_values(goal, threads, processes, seconds)
    file = _output(path, path.with_name(NAME) if out is None else Path(out), overwrite)
    if "form" in AXES[goal]:
        for made in names_of(path.stem):
            model_file.refuse_existing(file.with_name(made), overwrite)
    graph = model_file.load(path)
    samples = open_samples(inputs_of(graph, data, Runtime()), signature_of(graph), options=read)
    inputs, cores = drawn_inputs(samples, 1), physical_cores()
    operators = frozenset(node.op_type for node in graph.graph.all_nodes())
    del graph
    clock = MachineClock(inputs, seconds, processes or cores, seed)
    default = Deployment(path, FullRuntime()).with_threads(threads or cores)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{NAME}.") as place:
        bench = Bench(threads or cores, operators, Path(place), path.stem)
        compared = comparison(default, inputs[:COMPARED])
        found = tuned(
            default, AXES[goal], bench, goal=goal, clock=clock, same=_same(compared), progress=_counted(progress)
        )
        latency = _latency(goal, clock, default, found)
        changed = compared(found.best)
        best = _moved(found.best, file.parent, overwrite)
    written = _session_file(best, goal, found, latency)
    model_file.atomic_write_text(file, written.model_dump_json(indent=2) + "\n", overwrite=overwrite)
    return TunedSession(file, best.file, written, found.trials, found.reason, changed)


def _refuse_values(goal: str, threads: int | None, processes: int | None, seconds: float) -> None:
    if goal not in get_args(SessionGoal):
        raise UsageError("ONX102", "unknown goal", where=str(goal), hint=nearest(str(goal), get_args(SessionGoal)))
    refuse_non_positive(threads=threads, processes=processes, seconds=seconds)
    if processes is not None and goal != "throughput":
        hint = "Give the goal throughput, or leave it out."
        raise UsageError("ONX112", "this option belongs to the goal throughput", where="processes", hint=hint)


def _output(model: Path, out: Path, overwrite: bool) -> Path:
    """Return the file to write, after refusing one that cannot be written or that does not lie beside the model."""
    if not model.is_file():
        raise FileError("ONX501", "the model file does not exist", where=str(model), hint="Check the path.")
    try:
        plain_name(model.name)
    except ValueError as error:
        hint = "Rename the model."
        why = first_line(error)
        raise UsageError("ONX101", "a session file cannot name this", where=str(model), why=why, hint=hint) from error
    refuse_output_file(out, overwrite=overwrite, source=model, kind=".json")
    if out.parent.resolve() != model.parent.resolve():
        hint = f"Write it to {model.parent}, or copy the model first."
        raise UsageError("ONX101", "a session file lies beside its model", where=str(out), hint=hint)
    return out


def _same(compared: Callable[[Deployment], float]) -> Callable[[Deployment], str]:
    def same(deployment: Deployment) -> str:
        moved = compared(deployment)
        return "" if moved <= TOLERANCE else f"its outputs differ by {moved:.2g} of the largest"

    return same


def _counted(progress: StageProgress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress("settings", done, total)


def _latency(goal: SessionGoal, clock: Clock, default: Deployment, found: Tuning) -> SessionGain | None:
    """Return the time of a run with the chosen settings, where they were chosen by another figure."""
    if goal == "latency" or found.measured is None:
        return None
    one = clock("latency", {DEFAULT: default, CHOSEN: found.best})[CHOSEN]
    return SessionGain.of(one.value, UNITS["latency"], one.ratio, one.unsure)


def _moved(best: Deployment, folder: Path, overwrite: bool) -> Deployment:
    """Move the file of the chosen form, and its weights, beside the model."""
    if best.form == "onnx":
        return best
    weights, file = best.file.with_name(f"{best.file.name}.data"), folder / best.file.name
    for path in (file, folder / weights.name):
        model_file.refuse_existing(path, overwrite)
    # Weights first: a model file never names weights that are not there yet.
    if weights.exists():
        weights.replace(folder / weights.name)
    best.file.replace(file)
    return replace(best, file=file)


def _session_file(best: Deployment, goal: SessionGoal, found: Tuning, latency: SessionGain | None) -> SessionFile:
    settings, one = session_settings(best.runtime), found.measured
    return SessionFile(
        model=best.file.name,
        size_bytes=best.file.stat().st_size,
        form=best.form,
        made_for=None if best.form == "onnx" else this_machine(),
        settings=settings,
        goal=goal,
        gain=None if one is None else SessionGain.of(one.value, UNITS[goal], one.ratio, one.unsure),
        latency=latency,
        code=lines_for(best.file.name, settings),
    )
