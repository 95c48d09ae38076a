"""Commands that measure: eval, compare, bench."""

from enum import Enum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxopt.cli.options import (
    DATA,
    LABELS,
    LIMIT,
    MAX_DROP,
    MAYBE_DATA,
    MODEL,
    Reading,
    Running,
    Scoring,
    Shown,
    Tasking,
)
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from onnxopt.measure.runtime.session import Runtime

BATCH_SIZE = Annotated[int, typer.Option("--batch-size", help="Batch size at which latency is measured.")]
HOT = Annotated[
    bool, typer.Option("--hot", help="Time one input repeatedly instead of alternating the inputs of --data.")
]
SECONDS = Annotated[float, typer.Option("--seconds", help="Measurement time.")]


class Scenario(Enum):
    """Load on a model in deployment."""

    SINGLE = "single"
    BATCH = "batch"
    OFFLINE = "offline"
    STREAMS = "streams"

    @property
    def batch_size(self) -> int:
        """Default number of samples per run."""
        return {"batch": 8, "offline": 32}.get(self.value, 1)


def evaluate(
    model: MODEL,
    *,
    data: DATA,
    labels: LABELS = None,
    limit: LIMIT = None,
    simulate: Annotated[
        str | None,
        typer.Option(
            "--simulate", metavar="x86-avx2,arm64", help="Also score an emulation of these processors' INT8 arithmetic."
        ),
    ] = None,
    scoring: Scoring,
    tasking: Tasking,
    running: Running,
    reading: Reading,
    shown: Shown,
) -> int:
    """Measure the accuracy of a model."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.evaluate import score, score_document

    with ProgressBar(shown) as bar:
        scored = score(
            model,
            data,
            labels=labels,
            metric=scoring.metric,
            output=scoring.output_name,
            threshold=scoring.threshold,
            tasks=tasking.options(),
            runtime=running.runtime(),
            limit=limit,
            read=reading.options(),
            seed=running.seed,
            simulate=simulate,
            progress=bar.callback("samples"),
        )
    emit(score_document(model, scored), shown)
    return ExitCode.OK


def compare(
    model: MODEL,
    other: Annotated[Path, typer.Argument(help="ONNX file made from the baseline.", show_default=False)],
    *,
    data: DATA,
    labels: LABELS = None,
    max_drop: MAX_DROP = None,
    batch_size: BATCH_SIZE = 1,
    seconds: SECONDS = 3.0,
    hot: HOT = False,
    limit: LIMIT = None,
    scoring: Scoring,
    tasking: Tasking,
    running: Running,
    reading: Reading,
    shown: Shown,
) -> int:
    """Compare two models: accuracy, fidelity, latency, size. A drop above the budget ends with exit code 1."""
    quieten(shown)
    _positive("--seconds", seconds)
    _positive("--batch-size", batch_size)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.compare import compare as compare_models
    from onnxopt.tasks.compare import compare_document

    with ProgressBar(shown) as bar:
        result = compare_models(
            model,
            other,
            data,
            labels=labels,
            metric=scoring.metric,
            output=scoring.output_name,
            threshold=scoring.threshold,
            tasks=tasking.options(),
            max_drop=max_drop,
            runtime=running.runtime(),
            batch_size=batch_size,
            latency_s=seconds,
            hot=hot,
            limit=limit,
            read=reading.options(),
            seed=running.seed,
            progress=bar.callback("samples"),
        )
    emit(compare_document(result), shown)
    return ExitCode.OK if result.within else ExitCode.LIMIT_NOT_MET


def bench(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is the baseline.", show_default=False)],
    *,
    data: MAYBE_DATA = None,
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", help="Batch size; repeat it. [default: 1]")
    ] = None,
    seconds: SECONDS = 5.0,
    memory: Annotated[bool, typer.Option("--memory", help="Also measure memory and cold start.")] = False,
    hot: HOT = False,
    processes: Annotated[
        int | None, typer.Option("--processes", help="Measure throughput under load from this many processes.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the time per operator instead.")] = False,
    scenario: Annotated[
        Scenario,
        typer.Option(
            "--scenario",
            help="single: one run at a time; batch: 8 samples per run; offline: 32; streams: concurrent runs.",
        ),
    ] = Scenario.SINGLE,
    streams: Annotated[
        int | None, typer.Option("--streams", help="Concurrent runs for --scenario streams. [default: 4]")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="ssh://[user@]board", help="Measure on this board, through the OpenSSH client."
        ),
    ] = None,
    running: Running,
    reading: Reading,
    shown: Shown,
) -> int:
    """Measure the latency of models in alternating runs."""
    quieten(shown)
    _positive("--seconds", seconds)
    sizes = batch_size or [scenario.batch_size]
    for size in sizes:
        _positive("--batch-size", size)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.benchmark import bench as time_models
    from onnxopt.tasks.benchmark import bench_document, profile_models

    runtime, read = running.runtime(), reading.options()
    if device is not None:
        from onnxopt.tasks.device import device_document, measure_on

        _for_boards(runtime, data, sizes, memory=memory, profile=profile)
        threads, size = runtime.threads, sizes[0]
        found_there = measure_on(
            device, models, data, threads=threads, seconds=seconds, batch_size=size, read=read, seed=running.seed
        )
        emit(device_document(found_there), shown)
        return ExitCode.OK
    if profile:
        emit(profile_models(models, data, batch_size=sizes[0], runtime=runtime, read=read), shown)
        return ExitCode.OK
    if processes is not None:
        _positive("--processes", processes)
        if memory or hot or streams is not None or len(sizes) > 1 or scenario is not Scenario.SINGLE:
            hint = "Leave --memory, --hot, --streams and --scenario out, and give one --batch-size."
            raise UsageError("ONX109", "--processes measures load", where="--processes", hint=hint)
        from onnxopt.tasks.benchmark import crowd, crowd_document

        with ProgressBar(shown) as bar:
            loads = crowd(
                models,
                data,
                processes=processes,
                runtime=runtime,
                batch_size=sizes[0],
                seconds=seconds,
                read=read,
                progress=bar.callback("rounds under load"),
            )
        emit(crowd_document(loads, data), shown)
        return ExitCode.OK
    if streams is not None and scenario is not Scenario.STREAMS:
        raise UsageError("ONX109", "--streams belongs to --scenario streams", where="--streams", hint="Add it.")
    if scenario in (Scenario.OFFLINE, Scenario.STREAMS):
        from onnxopt.tasks.benchmark import throughput, throughput_document

        if memory or len(sizes) > 1:
            hint = "Leave --memory out, and give one --batch-size."
            raise UsageError("ONX109", "this scenario measures throughput", where=scenario.value, hint=hint)
        with ProgressBar(shown) as bar:
            rates = throughput(
                models,
                data,
                runtime=runtime,
                batch_size=sizes[0],
                streams=(streams or 4) if scenario is Scenario.STREAMS else 1,
                seconds=seconds,
                read=read,
                seed=running.seed,
                progress=bar.callback("rounds under load"),
            )
        emit(throughput_document(rates, data), shown)
        return ExitCode.OK
    with ProgressBar(shown) as bar:
        found = time_models(
            models,
            data,
            runtime=runtime,
            batch_sizes=sizes,
            seconds=seconds,
            memory=memory,
            hot=hot,
            read=read,
            seed=running.seed,
            progress=bar.callback("timed epochs"),
        )
    emit(bench_document(found, data), shown)
    return ExitCode.OK


def _for_boards(runtime: "Runtime", data: str | None, sizes: list[int], *, memory: bool, profile: bool) -> None:
    """Refuse options that a benchmark kit does not support."""
    plain = type(runtime)(threads=runtime.threads)
    if data is None or runtime != plain or len(sizes) > 1 or memory or profile:
        raise UsageError(
            "ONX109",
            "--device measures plain CPU latency at one batch size",
            where="--device",
            hint="Give --data, and leave out --memory, --profile, --ep and session options; write a bundle for more.",
        )


def _positive(option: str, value: float) -> None:
    if not (value > 0 and isfinite(value)):
        raise UsageError("ONX101", "invalid option value", where=option, why=f"{value} given", hint="Give more than 0.")
