"""One call from a model and samples to a folder with the best model and the proof."""

from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxopt.errors import FileError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, given
from onnxopt.options.keywords import with_named, with_options
from onnxopt.options.search import SearchOptions
from onnxopt.record.options import KeptOptions
from onnxopt.record.repro import Origin
from onnxopt.run.finished import Run
from onnxopt.run.folder import RunFolder
from onnxopt.run.job import prepare
from onnxopt.run.recorder import Recorder
from onnxopt.samples import ReadOptions
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.observer import NullObserver, Observer


@with_options(SearchOptions)
def optimize(
    model: Given,
    data: object,
    *,
    options: SearchOptions | None = None,
    labels: object = None,
    calibration: object = None,
    runtime: Runtime | None = None,
    tasks: TaskOptions | None = None,
    read: ReadOptions | None = None,
    out: str | Path = "onnxopt-run",
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
    command: str | None = None,
    **named: Any,
) -> Run:
    """Find the fastest or smallest model within the accuracy budget and write it with the proof to `out`.

    The folder has the best model so far at any time. Without a winner, best.onnx is the unchanged baseline.

    Args:
        model: the baseline (not modified).
        data: samples for evaluation, see `onnxopt.open_samples`; labels give accuracy, else fidelity is measured.
        options: options of the search, see `onnxopt.SearchOptions`.
        labels: one per sample, instead of those in `data`.
        calibration: calibration samples; None takes a part of `data`, which is excluded from evaluation.
        runtime: configuration of ONNX Runtime.
        tasks: tasks of the outputs and options of their decoding; None recognizes the tasks.
        read: options of the data readers.
        out: folder to write.
        overwrite: whether to replace files of an earlier run in `out`; other files are never touched.
        resume: whether to continue the search in `out` that has the same arguments, with its measurements.
        observer: called at every step.
        command: the command line, for the record.
        named: fields of `options` that replace its own, such as `max_drop="1pp"`.

    Raises:
        OnnxoptError: ONX1xx usage, ONX2xx data, ONX3xx model, ONX4xx runtime, ONX5xx files.
        KeyboardInterrupt: the user pressed Ctrl-C; `out` has the results so far.
    """
    options = with_named(options or SearchOptions(), named, optimize)
    deadline = Deadline(options.time_limit_s)
    model = given(model)
    path = None if isinstance(model, ir.Model) else model
    if path is not None and not path.exists():
        raise FileError("ONX501", "the model file does not exist", where=str(path), hint="Check the path.")
    folder = RunFolder(Path(out), overwrite, resume)
    rest: dict[str, Any] = {"labels": labels, "calibration": calibration, "runtime": runtime, "tasks": tasks}
    try:
        folder.refuse(path, (data, labels, calibration))
        job = prepare(model, data, options, read=read, **rest)
        origin = Origin(
            path, data, calibration, read or ReadOptions(), options.limit, job.settings.target, options.seed
        )
        kept = KeptOptions.of(options, {"model": model, "data": data, "read": read, **rest})
        recorder = Recorder(
            job,
            folder,
            origin=origin,
            observer=observer or NullObserver(),
            command=command,
            options=kept,
            deadline=deadline,
        )
        return Run(folder.path, recorder.run()[0])
    finally:
        folder.release()
