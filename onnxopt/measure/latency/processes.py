"""Models in several processes at once, as on a server: runs per second, and tail latency."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from onnxopt.measure.latency import refuse_emulation
from onnxopt.measure.latency.side_by_side import SideBySide
from onnxopt.measure.latency.tails import upper_bound
from onnxopt.measure.resources.energy import Meter, packages
from onnxopt.measure.runtime.apart import task_folder
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.session import Loadable, Runtime
from onnxopt.samples import Feeds

ROUNDS = 2
"""Turns of every model; each turn starts new processes, which load the models one after the other."""


@dataclass(frozen=True)
class ProcessLoad:
    """Throughput and latency of a model in `processes` processes at once.

    Attributes:
        samples_per_s: samples per second of all processes together.
        p50_ms: median time of a run.
        p99_ms: 99 of 100 runs take no longer; None with fewer than 459 runs.
        p99_bound_ms: the true 99 % quantile is below it with 99 % confidence; None with fewer than 459 runs.
        runs: number of timed runs, all processes together.
        joules: energy per run of the whole processor; None if the system does not count it.
        rates: samples per second in each turn.
    """

    samples_per_s: float
    p50_ms: float
    p99_ms: float | None
    p99_bound_ms: float | None
    runs: int
    processes: int
    batch_size: int
    joules: float | None
    rates: tuple[float, ...] = ()


def measure_processes(
    models: Mapping[str, Loadable],
    feeds: Feeds,
    runtime: Runtime | Mapping[str, Runtime],
    *,
    processes: int,
    seconds: float = 5.0,
    batch_size: int = 1,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    meter: Meter = packages,
    emulation: Callable[[], str | None] = emulator,
) -> dict[str, ProcessLoad]:
    """Run every model in `processes` processes that start together; models take turns, in random order.

    Args:
        models: the models by name.
        feeds: one batch, the same in every run.
        runtime: configuration of ONNX Runtime, for all models or by name.
        processes: processes at once.
        seconds: seconds of timed runs, all models together.
        batch_size: samples in a run.
        rounds: turns of every model.
        seed: seed of the order of models in a turn.
        progress: called with the number of turns done and their total.
        meter: reads the energy that the processor has used.
        emulation: returns the evidence of an emulated processor, or None.

    Raises:
        NativeError: ONX403 the processor is emulated, ONX401 a process failed.
        UsageError: ONX106 the provider is not available.
    """
    refuse_emulation(emulation)
    share_s = seconds / (rounds * len(models))
    times = {name: list[np.ndarray]() for name in models}
    rates = {name: list[float]() for name in models}
    used = {name: list[float | None]() for name in models}
    rng, names = np.random.default_rng(seed), list(models)
    with ExitStack() as stack:
        folders = {
            name: stack.enter_context(
                task_folder(model, feeds, runtime if isinstance(runtime, Runtime) else runtime[name])
            )
            for name, model in models.items()
        }
        for turn in range(rounds):
            with SideBySide(processes) as group:
                for name in (names[i] for i in rng.permutation(len(names))):
                    found, energy = group.run(folders[name], share_s, meter)
                    times[name] += found
                    rates[name].append(sum(len(t) / t.sum() * 1e9 for t in found) * batch_size)
                    used[name].append(None if energy is None else energy / sum(map(len, found)))
            if progress is not None:
                progress(turn + 1, rounds)
    return {name: _summed_up(times[name], rates[name], used[name], processes, batch_size) for name in models}


def _summed_up(
    times: Sequence[np.ndarray], rates: Sequence[float], used: Sequence[float | None], processes: int, batch_size: int
) -> ProcessLoad:
    every_ms = np.concatenate(times) / 1e6
    bound = upper_bound(every_ms, 0.99)
    known = [energy for energy in used if energy is not None]
    return ProcessLoad(
        float(np.median(rates)),
        float(np.median(every_ms)),
        None if bound is None else float(np.quantile(every_ms, 0.99)),
        bound,
        len(every_ms),
        processes,
        batch_size,
        float(np.median(known)) if known else None,
        tuple(rates),
    )
