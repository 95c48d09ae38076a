"""One call from a model and samples to a folder with the best model and the proof."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnxopt.errors import FileError
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, given
from onnxopt.record.options import SearchOptions
from onnxopt.record.repro import Origin
from onnxopt.run.finished import Run
from onnxopt.run.folder import RunFolder
from onnxopt.run.job import prepare
from onnxopt.run.recorder import Recorder
from onnxopt.samples import ReadOptions
from onnxopt.search.budget import Goal
from onnxopt.search.deadline import Deadline
from onnxopt.search.observer import NullObserver, Observer


def optimize(
    model: Given,
    data: object,
    *,
    labels: object = None,
    calibration: object = None,
    metric: str | Metric | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    max_drop: str | float | None = None,
    goal: str | Goal | None = None,
    confidence: float | None = None,
    require: str | None = None,
    target: str = "auto",
    runtime: Runtime | None = None,
    batch_size: int = 1,
    latency_s: float | None = None,
    hot: bool = False,
    prune: bool = False,
    train: bool = False,
    time_limit_s: float | None = None,
    trial_timeout_s: float | None = None,
    memory_limit: str | int | None = None,
    cluster: str | None = None,
    bench: str | None = None,
    tls: tuple[str, str, str] | None = None,
    target_latency: str | None = None,
    target_size: str | None = None,
    strategy: str | None = None,
    protect: Sequence[str] = (),
    tasks: TaskOptions | None = None,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    out: str | Path = "onnxopt-run",
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
    command: str | None = None,
) -> Run:
    """Find the fastest or smallest model within the accuracy budget and write it with the proof to `out`.

    The folder has the best model so far at any time. Without a winner, best.onnx is the unchanged baseline.

    Args:
        model: the baseline (not modified).
        data: samples for evaluation, see `onnxopt.open_samples`; labels give accuracy, else fidelity is measured.
        labels: one per sample, instead of those in `data`.
        calibration: calibration samples; None takes a part of `data`, which is excluded from evaluation.
        metric: name, `file.py:function` or `fidelity`; None = by the labels.
        output: model output to score; None = the first that fits.
        threshold: lowest single score of the positive class.
        max_drop: budget: `1pp` (percentage points), `1%` (of the baseline's score), or a number in the metric's unit;
            None for 1pp, or 1% for metrics without points (rmse, mae, user metrics).
        goal: `latency` or `size`; None for latency, or the strategy's.
        confidence: required probability of being within budget for a proof; None for 0.95.
        require: `proven`: an unproven winner does not ship; `likely` (default): it ships from a probability of 70 %.
        target: target processor; `auto` is this machine.
        runtime: configuration of ONNX Runtime.
        batch_size: for the latency.
        latency_s: measurement time per candidate.
        hot: whether to time one repeated batch instead of alternating inputs of `data`.
        prune: whether to prune channels too; takes minutes more.
        train: whether to distill pruned models that are over budget; needs torch.
        time_limit_s: time limit of the whole call with proof and report, see `onnxopt.search.reserve`.
        trial_timeout_s: time limit per candidate; each then runs in its own process, so a crash ends it alone.
        memory_limit: memory limit per candidate in its own process, in bytes or as `2GB`.
        cluster: address of a Dask scheduler whose workers build, score and time candidates, such as `tcp://host:8786`.
        bench: Dask resource of the workers that measure latency; None for those of this kind of processor.
        tls: files for an encrypted connection to the cluster: authority, certificate, key.
        target_latency: such as `10ms` or `0.5x`; the search ends at this latency.
        target_size: such as `2MB` or `0.25x`; the search ends at this size.
        strategy: `mobile`, `edge`, `realtime`, `server` or `size`: a preset of `goal`, `prune`, `train`, `protect`.
        protect: layers whose channels are not pruned: `first`, `last`, `embeddings`; () = the strategy's.
        tasks: tasks of the outputs and options of their decoding; None recognizes the tasks.
        limit: largest number of samples of `data`.
        read: options of the data readers.
        seed: random seed.
        out: folder to write.
        overwrite: whether to replace files of an earlier run in `out`; other files are never touched.
        resume: whether to continue the search in `out` that has the same arguments, with its measurements.
        observer: called at every step.
        command: the command line, for the record.

    Raises:
        OnnxoptError: ONX1xx usage, ONX2xx data, ONX3xx model, ONX4xx runtime, ONX5xx files.
        KeyboardInterrupt: the user pressed Ctrl-C; `out` has the results so far.
    """
    deadline = Deadline(time_limit_s)
    model = given(model)
    path = None if isinstance(model, ir.Model) else model
    if path is not None and not path.exists():
        raise FileError("ONX501", "the model file does not exist", where=str(path), hint="Check the path.")
    folder = RunFolder(Path(out), overwrite, resume)
    asked: dict[str, Any] = {
        "labels": labels,
        "calibration": calibration,
        "metric": metric,
        "output": output,
        "threshold": threshold,
        "max_drop": max_drop,
        "goal": goal,
        "confidence": confidence,
        "require": require,
        "target": target,
        "runtime": runtime,
        "batch_size": batch_size,
        "latency_s": latency_s,
        "hot": hot,
        "prune": prune,
        "train": train,
        "time_limit_s": time_limit_s,
        "trial_timeout_s": trial_timeout_s,
        "memory_limit": memory_limit,
        "cluster": cluster,
        "bench": bench,
        "tls": tls,
        "target_latency": target_latency,
        "target_size": target_size,
        "strategy": strategy,
        "protect": protect,
        "tasks": tasks,
        "limit": limit,
        "read": read,
        "seed": seed,
    }
    try:
        folder.refuse(path, (data, labels, calibration))
        job = prepare(model, data, **asked)
        origin = Origin(path, data, calibration, read or ReadOptions(), limit, job.settings.target, seed)
        options = SearchOptions.of({"model": model, "data": data, **asked})
        recorder = Recorder(job, folder, origin, observer or NullObserver(), command, options, deadline)
        record, _ = recorder.run()
        return Run(folder.path, record)
    finally:
        folder.release()
