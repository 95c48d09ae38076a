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
    """Find the fastest or smallest model inside the accuracy budget and write it with the proof to `out`.

    The best so far is in the folder from the moment it is known. When nothing wins, best.onnx is the original.

    Args:
        model: stays as it is.
        data: samples to judge on, see `onnxopt.open_samples`; with labels accuracy is measured, else fidelity.
        labels: one per sample, instead of those in `data`.
        calibration: samples to calibrate on; None takes a part of `data`, which then judges nothing.
        metric: name, `file.py:function` or `fidelity`; None decides by the labels.
        output: the model output to score.
        threshold: above which a single score means "positive".
        max_drop: `1pp` (points), `1%` (of the baseline's score), or a number in the metric's unit; None for 1pp, or
            1% where the metric has no points (rmse, mae, one of your own).
        goal: `latency` or `size`; None for latency, or as the strategy says.
        confidence: probability that the true drop is inside the budget from which a winner is proven; None for 0.95.
        require: `proven`: nothing else ships; `likely`, the default: where nothing is proven, a winner of 0.7 or more.
        target: processor to quantize for; `auto` is this one.
        runtime: how models are run.
        batch_size: at which latency is measured.
        latency_s: time spent on the latency of one candidate.
        hot: whether to time one batch again and again, and not the inputs of `data` by turns.
        prune: whether to remove channels too, which takes minutes more.
        train: whether a pruned model that loses too much may learn from the original; needs torch.
        time_limit_s: of the whole call, see `onnxopt.search.reserve`; what is unfinished then is cut or left out.
        trial_timeout_s: time after which building and scoring one candidate is given up; each then runs in a process of
            its own, so that a crash ends that candidate only.
        memory_limit: of such a process, in bytes or as `2GB`.
        cluster: address of a Dask scheduler whose workers build, score and time candidates, such as `tcp://host:8786`.
        bench: resource of the workers that time models; None for those of this kind of processor.
        tls: files of the authority, the certificate and the key for the connection to the cluster.
        target_latency: such as `10ms` or `0.5x`; the search ends when it is reached.
        target_size: such as `2MB` or `0.25x`, likewise.
        strategy: `mobile`, `edge`, `realtime`, `server` or `size`, which decide `goal`, `prune` and `train`.
        protect: layers that keep all their channels: `first`, `last`, `embeddings`; () as the strategy says.
        tasks: as which tasks outputs are judged, and how they are read; None finds it out.
        limit: samples of `data` to use at most.
        read: how `data` is read.
        seed: of everything random.
        out: folder to write.
        overwrite: whether files of an earlier run in `out` may be replaced; other files are never touched.
        resume: go on with the search that was begun in `out` with the same arguments; what it measured is kept.
        observer: told every step.
        command: the command line, for the record.

    Raises:
        OnnxoptError: of every family; before the baseline is measured nothing is written.
        KeyboardInterrupt: the user pressed Ctrl-C; what was found until then is in `out`, if anything was.
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
