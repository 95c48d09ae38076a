"""Samples per second under load: several concurrent streams, models alternating."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.measure.latency import refuse_emulation
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Runtime, Session, failures_named
from onnxopt.measure.statistics import Interval, ratio_interval
from onnxopt.samples import Feeds

ROUNDS = 6
"""Turns of every model; each turn loads new sessions, because the place of their memory affects the time."""


@dataclass(frozen=True)
class Throughput:
    """The throughput of a model.

    Attributes:
        samples_per_s: samples per second; median of the rounds.
        speedup: ratio to the baseline in the same round, with its interval; None for the baseline.
        p50_ms: median time of one run while all streams run.
        p99_ms: 99 of 100 runs take no longer.
        runs: number of timed runs.
        streams: number of concurrent runs.
        batch_size: samples in a run.
    """

    samples_per_s: float
    speedup: Interval | None
    p50_ms: float
    p99_ms: float
    runs: int
    streams: int
    batch_size: int


def measure_throughput(
    models: Mapping[str, Loadable],
    feeds: Feeds,
    runtime: Runtime,
    *,
    streams: int = 1,
    seconds: float = 5.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    emulation: Callable[[], str | None] = emulator,
) -> dict[str, Throughput]:
    """Run every model in `streams` threads that share one session; the first model is the baseline.

    Args:
        models: the models by name, the baseline first.
        feeds: one batch, the same in every run.
        runtime: configuration of ONNX Runtime, with the threads of one run.
        streams: number of concurrent runs.
        seconds: total time of the load.
        seed: seed of the order of models in a round.
        progress: called with the number of rounds done and their total.
        emulation: returns the evidence of an emulated processor, or None.

    Raises:
        NativeError: ONX403 the processor is emulated, ONX401 a model cannot be run.
        ModelError: ONX304 a model cannot be loaded.
    """
    refuse_emulation(emulation)
    size = len(np.asarray(next(iter(feeds.values())))) if feeds and np.ndim(next(iter(feeds.values()))) else 1
    share_s = seconds / (ROUNDS * len(models))

    def work() -> dict[str, Throughput]:
        rng = np.random.default_rng(seed)
        rates = {name: list[float]() for name in models}
        times = {name: list[float]() for name in models}
        names = list(models)
        for turn in range(ROUNDS):
            for index in rng.permutation(len(names)):
                name = names[index]
                with failures_named(feeds):
                    taken, elapsed_s = _load(Session(models[name], runtime).bound(feeds), streams, share_s)
                rates[name].append(len(taken) * size / elapsed_s)
                times[name] += taken
            if progress is not None:
                progress(turn + 1, ROUNDS)
        first = rates[names[0]]
        return {
            name: Throughput(
                float(np.median(rates[name])),
                ratio_interval([b / a for a, b in zip(first, rates[name], strict=True)]) if name != names[0] else None,
                1e3 * float(np.median(times[name])),
                1e3 * float(np.quantile(times[name], 0.99)),
                len(times[name]),
                streams,
                size,
            )
            for name in names
        }

    return interruptible(work)


def _load(run: Callable[[], Any], streams: int, seconds: float) -> tuple[list[float], float]:
    """Return the seconds of every run of all streams, and the seconds from the start to the end of the last run."""
    run()
    begin = threading.Barrier(streams + 1)
    taken: list[list[float]] = [[] for _ in range(streams)]
    failed: list[BaseException] = []

    def stream(mine: list[float]) -> None:
        begin.wait()
        last = time.perf_counter()
        end = last + seconds
        try:
            while last < end or not mine:
                run()
                now = time.perf_counter()
                mine.append(now - last)
                last = now
        except BaseException as error:  # raised by the waiting thread
            failed.append(error)

    threads = [threading.Thread(target=stream, args=(mine,), daemon=True) for mine in taken]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if failed:
        raise failed[0]
    return [one for mine in taken for one in mine], elapsed
