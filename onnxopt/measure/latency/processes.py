"""Models in several processes at once, as on a server: runs per second, and tail latency."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt.child import child_environment
from onnxopt.errors import NativeError, first_line
from onnxopt.measure.latency import refuse_emulation
from onnxopt.measure.latency.tails import upper_bound
from onnxopt.measure.resources.energy import Meter, joules, packages
from onnxopt.measure.runtime.apart import task_folder
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.session import Loadable, Runtime
from onnxopt.samples import Feeds

ROUNDS = 2
"""Turns of every model; each turn starts new processes."""

READY = "ready"


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
    """

    samples_per_s: float
    p50_ms: float
    p99_ms: float | None
    p99_bound_ms: float | None
    runs: int
    processes: int
    batch_size: int
    joules: float | None


def measure_processes(
    models: Mapping[str, Loadable],
    feeds: Feeds,
    runtime: Runtime,
    *,
    processes: int,
    seconds: float = 5.0,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
    meter: Meter = packages,
    emulation: Callable[[], str | None] = emulator,
) -> dict[str, ProcessLoad]:
    """Run every model in `processes` processes that start together; models take turns.

    Raises:
        NativeError: ONX403 the processor is emulated, ONX401 a process failed.
        UsageError: ONX106 the provider is not available.
    """
    refuse_emulation(emulation)
    share_s = seconds / (ROUNDS * len(models))
    times = {name: list[np.ndarray]() for name in models}
    rates = {name: list[float]() for name in models}
    used = {name: list[float | None]() for name in models}
    for turn in range(ROUNDS):
        for name, model in models.items():
            with task_folder(model, feeds, runtime) as folder:
                found, energy = _together(folder, processes, share_s, meter)
            times[name] += found
            rates[name].append(sum(len(t) / t.sum() * 1e9 for t in found) * batch_size)
            used[name].append(None if energy is None else energy / sum(map(len, found)))
        if progress is not None:
            progress(turn + 1, ROUNDS)
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
    )


def _together(folder: Path, processes: int, seconds: float, meter: Meter) -> tuple[list[np.ndarray], float | None]:
    """Return the run times in ns of each process, started at the same moment, and the energy in joules."""
    command = [sys.executable, "-m", "onnxopt.measure.latency.process_probe", str(folder), str(seconds)]
    begun = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        for _ in range(processes)
    ]
    try:
        for process in begun:
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY:
                assert process.stderr is not None
                said = process.stderr.read().strip().splitlines()
                why = said[-1] if said else "the process ended"
                raise NativeError("ONX401", "ONNX Runtime failed while running the model", why=why)
        before = meter()
        for process in begun:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate(timeout=60 + 10 * seconds)[0]) for process in begun]
        energy = joules(before, meter())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = first_line(error)
        raise NativeError("ONX401", "a process that ran the model failed", why=why) from error
    finally:
        for process in begun:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None and not stream.closed:
                    stream.close()
    return [np.array(answer) for answer in answers], energy
