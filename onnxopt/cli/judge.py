"""Commands that measure: evaluate, compare, benchmark, generation."""

from pathlib import Path
from typing import Annotated, cast

import typer

from onnxopt.cli.options import (
    BATCH_SIZE,
    DATA,
    HOT,
    LABELS,
    LIMIT,
    MAX_DROP,
    MAYBE_DATA,
    MODEL,
    SEED,
    SEQUENCE,
    Shown,
)
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode
from onnxopt.options.choices import Scenario
from onnxopt.options.lengths import USUAL_LENGTH
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.search import ScoringOptions
from onnxopt.options.tasks import TaskOptions

SECONDS = Annotated[float, typer.Option("--seconds", help="Measurement time.")]


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
    scoring: ScoringOptions,
    tasks: TaskOptions,
    runtime: Runtime,
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Measure the accuracy of a model."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.evaluate import evaluate as evaluate_model

    with ProgressBar(shown) as bar:
        scored = evaluate_model(
            model,
            data,
            labels=labels,
            metric=cast("str | None", scoring.metric),
            output=scoring.output,
            threshold=scoring.threshold,
            tasks=tasks,
            runtime=runtime,
            limit=limit,
            read=read,
            seed=seed,
            simulate=simulate or (),
            progress=bar.show,
        )
    emit(scored.document, shown)
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
    scoring: ScoringOptions,
    tasks: TaskOptions,
    runtime: Runtime,
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Compare two models: accuracy, fidelity, latency, size. A drop above the budget ends with exit code 1."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.compare import compare as compare_models

    with ProgressBar(shown) as bar:
        result = compare_models(
            model,
            other,
            data,
            labels=labels,
            metric=cast("str | None", scoring.metric),
            output=scoring.output,
            threshold=scoring.threshold,
            tasks=tasks,
            max_drop=max_drop,
            runtime=runtime,
            batch_size=batch_size,
            seconds=seconds,
            hot=hot,
            limit=limit,
            read=read,
            seed=seed,
            progress=bar.show,
        )
    emit(result.document, shown)
    return ExitCode.OK if result.within else ExitCode.LIMIT_NOT_MET


def benchmark(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is the baseline.", show_default=False)],
    *,
    data: MAYBE_DATA = None,
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", help="Batch size; repeat it. [default: 1]")
    ] = None,
    seconds: SECONDS = 5.0,
    memory: Annotated[bool, typer.Option("--memory", help="Also measure memory and cold start.")] = False,
    hot: HOT = False,
    sequence: SEQUENCE = None,
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
    ] = "single",
    streams: Annotated[
        int | None, typer.Option("--streams", help="Concurrent runs for --scenario streams. [default: 4]")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="ssh://[user@]board",
            help="Measure on this board (OpenSSH), or under local:///path/to/python.",
        ),
    ] = None,
    ep: Annotated[
        str | None,
        typer.Option(
            "--ep",
            metavar="cpu,openvino,...|auto",
            help="Execution providers side by side; auto: all that the installed ONNX Runtime offers.",
        ),
    ] = None,
    runtime: Runtime,
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Measure the latency of models in alternating runs."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.benchmark import benchmark as time_models

    with ProgressBar(shown) as bar:
        found = time_models(
            models,
            data,
            batch_size=batch_size,
            seconds=seconds,
            memory=memory,
            hot=hot,
            sequence=sequence,
            processes=processes,
            profile=profile,
            scenario=scenario,
            streams=streams,
            device=device,
            ep=ep,
            runtime=runtime,
            read=read,
            seed=seed,
            progress=bar.show,
        )
    emit(found.document, shown)
    return ExitCode.OK


def generation(
    models: Annotated[
        list[Path],
        typer.Argument(help="Decoders, or folders with an encoder; the first is the baseline.", show_default=False),
    ],
    *,
    data: MAYBE_DATA = None,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", help="Tokens of a prompt.")] = USUAL_LENGTH,
    new_tokens: Annotated[int, typer.Option("--new-tokens", help="Tokens that are generated behind it.")] = 32,
    seconds: SECONDS = 5.0,
    limit: LIMIT = None,
    runtime: Runtime,
    seed: SEED = 0,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Measure decoders: first token, tokens/s, perplexity."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.generation.generation import generation as generate

    with ProgressBar(shown) as bar:
        found = generate(
            models,
            data,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            seconds=seconds,
            limit=limit,
            runtime=runtime,
            read=read,
            seed=seed,
            progress=bar.show,
        )
    emit(found.document, shown)
    return ExitCode.OK
