"""The main command: optimize."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from onnxopt.cli.options import (
    DATA,
    DRY_RUN,
    LABELS,
    LIMIT,
    MAX_DROP,
    MODEL,
    TARGET,
    Reading,
    Running,
    Scoring,
    Shown,
    Tasking,
)
from onnxopt.cli.output import emit, note, quieten
from onnxopt.errors import ExitCode
from onnxopt.printable import printable

GoalName = Literal["latency", "size"]
"""Figure that the search improves."""

StrategyName = Literal["mobile", "edge", "realtime", "server", "size"]
"""Kind of deployment."""


def optimize(
    model: MODEL,
    *,
    data: DATA,
    labels: LABELS = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", help="Calibration samples. Default: a part of --data, which is excluded from evaluation."
        ),
    ] = None,
    max_drop: MAX_DROP = None,
    goal: Annotated[GoalName | None, typer.Option("--goal", help="Figure to improve. [default: latency]")] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence", help="Probability of being within the budget that counts as proof. [default: 0.95]"
        ),
    ] = None,
    require: Annotated[
        Literal["proven", "likely"] | None,
        typer.Option(
            "--require", help="`proven`: ship no winner that is only likely within the budget. [default: likely]"
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the best model, the record and the report.")
    ] = Path("onnxopt-run"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the folder; keep all other files.")
    ] = False,
    dry_run: DRY_RUN = False,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Batch size at which latency is measured.")] = 1,
    latency_seconds: Annotated[
        float | None,
        typer.Option(
            "--latency-seconds",
            help="Measurement time per candidate; a proof takes three times as long. [default: 1.0]",
        ),
    ] = None,
    hot: Annotated[
        bool, typer.Option("--hot", help="Time one input repeatedly instead of alternating the inputs of --data.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also prune channels of the best candidate; takes minutes more.")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="With --prune: distill pruned models from the baseline. Needs torch.")
    ] = False,
    strategy: Annotated[
        StrategyName | None,
        typer.Option("--strategy", help="Preset of --goal, --prune, --train and --protect for a kind of deployment."),
    ] = None,
    protect: Annotated[
        str | None,
        typer.Option(
            "--protect", help="Layers whose channels are never pruned: first, last, embeddings; comma-separated."
        ),
    ] = None,
    target_latency: Annotated[
        str | None, typer.Option("--target-latency", metavar="10ms|0.5x", help="Stop at this latency (or ratio).")
    ] = None,
    target_size: Annotated[
        str | None, typer.Option("--target-size", metavar="2MB|0.25x", help="Stop at this file size (or ratio).")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="SECONDS", help="Limit of the whole run, with proof and report."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in --out that has the same options.")
    ] = False,
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            "--trial-timeout",
            metavar="SECONDS",
            help="Time limit per candidate; runs each candidate in its own process.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit", metavar="2GB", help="Memory limit per candidate; runs each candidate in its own process."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="tcp://HOST:PORT",
            help="Dask scheduler whose workers build, score and time candidates.",
        ),
    ] = None,
    bench: Annotated[
        str | None,
        typer.Option(
            "--bench", metavar="bench-arm64", help="With --cluster: Dask resource of the workers that measure latency."
        ),
    ] = None,
    tls: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--tls", metavar="CA CERT KEY", help="With --cluster: files for an encrypted connection."),
    ] = None,
    limit: LIMIT = None,
    target: TARGET = "auto",
    scoring: Scoring,
    tasking: Tasking,
    running: Running,
    reading: Reading,
    shown: Shown,
) -> int:
    """Find the best model within an accuracy budget. The proof uses samples that no choice depends on."""
    quieten(shown)
    asked: dict[str, Any] = {
        "labels": labels,
        "calibration": calibration,
        "metric": scoring.metric,
        "output": scoring.output,
        "threshold": scoring.threshold,
        "tasks": tasking.options(),
        "max_drop": max_drop,
        "goal": goal,
        "confidence": confidence,
        "require": require,
        "target": target,
        "runtime": running.runtime(),
        "batch_size": batch_size,
        "latency_s": latency_seconds,
        "hot": hot,
        "prune": prune,
        "train": train,
        "strategy": strategy,
        "protect": tuple(protect.split(",")) if protect else (),
        "target_latency": target_latency,
        "target_size": target_size,
        "time_limit_s": time_limit,
        "trial_timeout_s": trial_timeout,
        "memory_limit": memory_limit,
        "cluster": cluster,
        "bench": bench,
        "tls": tls,
        "limit": limit,
        "read": reading.options(),
        "seed": running.seed,
    }
    if dry_run:
        from onnxopt.run.plan import plan_document

        emit(plan_document(model, data, out, overwrite, asked), shown)
        return ExitCode.OK
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(['onnxopt', *sys.argv[1:]])}"
    return search(
        {**asked, "model": model, "data": data, "overwrite": overwrite, "resume": resume}, out, shown, command
    )


def search(asked: Mapping[str, Any], out: Path, shown: Shown, command: str | None = None) -> int:
    """Run a search with the arguments of `onnxopt.optimize` and show its progress and result."""
    from onnxopt.cli.progress import ProgressBar, SearchBar
    from onnxopt.report.summary import summary
    from onnxopt.run.optimize import optimize as find_best

    def say(text: str) -> None:
        if shown.verbose:
            note(text, shown)

    bar = ProgressBar(shown)
    observer = SearchBar(bar, say)
    try:
        with bar:
            run = find_best(**asked, out=out, observer=observer, command=command)
    except KeyboardInterrupt:
        kept = (
            f"results so far are in {out}; to continue: onnxopt resume {shlex.quote(str(out))}"
            if observer.began
            else "nothing was written"
        )
        print(printable(f"interrupted: {kept}"), file=sys.stderr)
        return ExitCode.INTERRUPTED
    emit(summary(run.record, run.folder), shown)
    met = run.won and run.record.aim_reached is not False
    return ExitCode.OK if met else ExitCode.LIMIT_NOT_MET
