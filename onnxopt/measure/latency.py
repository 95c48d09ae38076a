"""Latency of models side by side: all alive in one process, run by turns, so that what disturbs one disturbs all."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxopt.errors import NativeError
from onnxopt.measure.emulation import emulator
from onnxopt.measure.interrupt import interruptible
from onnxopt.measure.memory import peak_memory_bytes
from onnxopt.measure.session import Loadable, Runtime, Session, failures_named
from onnxopt.measure.statistics import Interval, ratio_interval
from onnxopt.samples import Feeds

Clock = Callable[[], int]
Progress = Callable[[int, int], None]
"""Called with how many epochs are done and how many there are."""

BLOCK_NS = 2_000_000
"""Shortest block of timed runs: long against the clock's resolution and a switch of models."""

SETTLE_BELOW_NS = 100_000_000
"""When all models are faster than this, a block starts with an untimed run, which refills the caches."""

WARM_UP_NS = 250_000_000
"""Longest warm-up of one session."""

QUANTILES = 41
"""Points of the distribution that is kept of each model's runs."""

MIN_EPOCHS = 4
"""Fewest epochs when loading takes long: below, the interval is useless."""


@dataclass(frozen=True)
class Latency:
    """How fast a model runs one batch.

    Attributes:
        p50_ms: median time of a run.
        p90_ms: 9 of 10 runs take no longer.
        p99_ms: 99 of 100 runs take no longer.
        n: timed runs, in blocks of all epochs.
        first_run_ms: the first run after loading, which allocates memory; median of the epochs.
        load_ms: time to load the model; median of the epochs.
        speedup: baseline time over this model's, paired by round, and how sure that is; None for the baseline.
        peak_memory_bytes: growth of a fresh process that loads and runs the model; None when not measured.
        batch_size: first axis of the inputs.
        p50_interval_ms: of `p50_ms`, from how much the epochs differ.
        quantiles_ms: of all runs, equally spaced from the fastest to the slowest.
        epochs_ms: median of each epoch, in the order of time.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int
    first_run_ms: float
    load_ms: float
    speedup: Interval | None
    peak_memory_bytes: int | None
    batch_size: int
    p50_interval_ms: Interval
    quantiles_ms: tuple[float, ...] = ()
    epochs_ms: tuple[float, ...] = ()


Rounds = list[list[np.ndarray]]
"""Run times in ns: for each round, for each model, the runs of its block."""


@dataclass(frozen=True)
class Epoch:
    """What the sessions of one loading showed; tuples hold one value per model."""

    rounds: Rounds
    load_ms: tuple[float, ...]
    first_run_ms: tuple[float, ...]
    loading_s: float


def measure_latency(
    models: Mapping[str, Loadable],
    feeds: Feeds,
    runtime: Runtime,
    *,
    seconds: float = 10.0,
    min_rounds: int = 16,
    warmup: int = 10,
    epochs: int = 8,
    memory: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
    emulation: Callable[[], str | None] = emulator,
) -> dict[str, Latency]:
    """Time models against the first of them, the baseline; Ctrl-C stops it.

    Time is split into epochs, each with newly loaded sessions, because where a session's memory happens to lie makes
    it a little faster or slower for as long as it lives. An epoch is many rounds; a round runs every model for a block
    of a few milliseconds, in random order. The speed-up's interval comes from how much the epochs differ.

    Args:
        models: by name, the baseline first.
        feeds: one batch.
        runtime: how to run.
        seconds: time to spend on timed runs.
        min_rounds: of all epochs together, also when they take longer than `seconds`.
        warmup: untimed runs of a new session; fewer when they take long.
        epochs: times every model is loaded; fewer when that takes long, but at least 4.
        memory: measure peak memory too, each model in a process of its own, a second or two each.
        seed: of the order of runs.
        progress: see `Progress`.
        clock: nanoseconds.
        emulation: says why the processor is no real one, or None.

    Raises:
        ValueError: there are no models.
        NativeError: ONX403 the processor is emulated, ONX401 a model cannot be run.
        ModelError: ONX304 a model cannot be loaded.
        UsageError: ONX106 the provider is not available.
    """
    if not models:
        raise ValueError("there are no models to measure")
    refuse_emulation(emulation)

    def work() -> dict[str, Latency]:
        rng = np.random.default_rng(seed)
        planned = max(epochs, 2)
        done: list[Epoch] = []
        while len(done) < planned:
            done.append(
                _epoch(
                    list(models.values()),
                    feeds,
                    runtime,
                    budget_ns=int(seconds * 1e9 / planned),
                    min_rounds=-(-min_rounds // planned),
                    warmup=warmup,
                    rng=rng,
                    clock=clock,
                )
            )
            planned = min(planned, max(MIN_EPOCHS, int(seconds / max(done[0].loading_s, 1e-9))))
            if progress is not None:
                progress(len(done), planned)
        peaks = [peak_memory_bytes(model, feeds, runtime) if memory else None for model in models.values()]
        return {name: _latency(i, done, peaks[i], _batch_size(feeds)) for i, name in enumerate(models)}

    return interruptible(work)


def refuse_emulation(emulation: Callable[[], str | None] = emulator) -> None:
    """Refuse to time anything on an emulated processor.

    Raises:
        NativeError: ONX403 it is emulated.
    """
    why = emulation()
    if why:
        raise NativeError(
            "ONX403",
            "latency is not measured under emulation",
            why=why,
            hint="Run on the device itself; accuracy and fidelity can be measured here.",
        )


def race(
    runs: Sequence[Callable[[], Any]],
    *,
    budget_ns: int,
    min_rounds: int,
    warmup: int,
    rng: np.random.Generator,
    clock: Clock = time.perf_counter_ns,
) -> Rounds:
    """Time `runs` by turns for `budget_ns` and at least `min_rounds` rounds."""
    estimates = np.zeros(len(runs))
    for index in rng.permutation(len(runs)):
        estimates[index] = _warm_up(runs[index], warmup, clock)
    repeats = [max(1, int(np.ceil(BLOCK_NS / max(e, 1)))) for e in estimates]
    settle = bool(estimates.max() < SETTLE_BELOW_NS)
    rounds: Rounds = []
    with _no_garbage_collection():
        start_ns = clock()
        while len(rounds) < min_rounds or clock() - start_ns < budget_ns:
            blocks = [np.empty(0)] * len(runs)
            for index in rng.permutation(len(runs)):
                blocks[index] = _block(runs[index], repeats[index], settle, clock)
            rounds.append(blocks)
    return rounds


def _block(run: Callable[[], Any], repeats: int, settle: bool, clock: Clock) -> np.ndarray:
    if settle:
        run()
    stamps = [clock()]
    for _ in range(repeats):
        run()
        stamps.append(clock())
    return np.diff(stamps)


def _warm_up(run: Callable[[], Any], times: int, clock: Clock) -> float:
    """Return the median time of a run in ns."""
    start_ns = clock()
    taken = _block(run, 1, False, clock)
    while len(taken) < times and clock() - start_ns < WARM_UP_NS:
        taken = np.append(taken, _block(run, 1, False, clock))
    return float(np.median(taken))


def _epoch(
    models: Sequence[Loadable],
    feeds: Feeds,
    runtime: Runtime,
    *,
    budget_ns: int,
    min_rounds: int,
    warmup: int,
    rng: np.random.Generator,
    clock: Clock,
) -> Epoch:
    """Load all models, time them, and let them go."""
    # Threads of a session that has just run would spin on, and take processor time from the next model's.
    if runtime.threads > 1:
        runtime = replace(runtime, options=(*runtime.options, ("session.force_spinning_stop", "1")))
    start_ns = clock()
    # Loading and first runs allocate memory, and whoever comes first gets the better part.
    loaded = {int(i): Session(models[i], runtime) for i in rng.permutation(len(models))}
    sessions = [loaded[i] for i in range(len(models))]
    first_run_ms = np.zeros(len(models))
    for i in rng.permutation(len(models)):
        run_start_ns = clock()
        _run_once(sessions[i], feeds)
        first_run_ms[i] = (clock() - run_start_ns) / 1e6
    loading_s = (clock() - start_ns) / 1e9
    with failures_named(feeds):
        runs = [session.bound(feeds) for session in sessions]
        rounds = race(runs, budget_ns=budget_ns, min_rounds=min_rounds, warmup=warmup, rng=rng, clock=clock)
    return Epoch(rounds, tuple(s.load_ms for s in sessions), tuple(map(float, first_run_ms)), loading_s)


def _run_once(session: Session, feeds: Feeds) -> None:
    """Run one batch; a model that takes only single samples, whatever its shapes declare, fails in plain words."""
    try:
        session.run(feeds)
    except NativeError as error:
        size = _batch_size(feeds)
        one = {name: array[:1] if np.ndim(array) and len(array) == size else array for name, array in feeds.items()}
        if size > 1 and _runs(session, one):
            raise NativeError(
                "ONX401",
                f"the model cannot be run at batch size {size}",
                why="it runs at batch size 1",
                hint="Give --batch-size 1, or export the model with a dynamic batch axis.",
            ) from error
        raise


def _runs(session: Session, feeds: Feeds) -> bool:
    try:
        session.run(feeds)
    except NativeError:
        return False
    return True


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _latency(index: int, epochs: Sequence[Epoch], peak_memory: int | None, batch_size: int) -> Latency:
    times_ms = np.concatenate([blocks[index] for epoch in epochs for blocks in epoch.rounds]) / 1e6
    p50, p90, p99 = map(float, np.quantile(times_ms, [0.5, 0.9, 0.99]))
    by_epoch = tuple(_p50_ms(epoch.rounds, index) for epoch in epochs)
    return Latency(
        p50,
        p90,
        p99,
        len(times_ms),
        float(np.median([epoch.first_run_ms[index] for epoch in epochs])),
        float(np.median([epoch.load_ms[index] for epoch in epochs])),
        ratio_interval([_median_ratio(epoch.rounds, index) for epoch in epochs]) if index else None,
        peak_memory,
        batch_size,
        _p50_interval(p50, by_epoch),
        tuple(map(float, np.quantile(times_ms, np.linspace(0, 1, QUANTILES)))),
        by_epoch,
    )


def _p50_ms(rounds: Rounds, index: int) -> float:
    return float(np.median(np.concatenate([blocks[index] for blocks in rounds]))) / 1e6


def _p50_interval(p50_ms: float, by_epoch: Sequence[float]) -> Interval:
    found = ratio_interval([max(p50, 1e-6) for p50 in by_epoch])
    return Interval(min(found.low, p50_ms), p50_ms, max(found.high, p50_ms), found.level)


def _median_ratio(rounds: Rounds, index: int) -> float:
    """Return baseline time over that of model `index`, paired by round."""
    return float(np.median([np.median(blocks[0]) / max(float(np.median(blocks[index])), 1.0) for blocks in rounds]))


def _batch_size(feeds: Feeds) -> int:
    first = np.asarray(next(iter(feeds.values()))) if feeds else np.empty(0)
    return len(first) if first.ndim else 1
