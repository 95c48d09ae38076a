"""The figure of each goal, measured for deployments in turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.measure.forms.deployment import Deployment
from onnxopt.measure.latency import measure_latency, refuse_emulation
from onnxopt.measure.latency.processes import measure_processes
from onnxopt.measure.latency.summary import interval_of_ratio, too_wide
from onnxopt.measure.resources.memory import footprint_of
from onnxopt.measure.statistics import Interval
from onnxopt.options.choices import SessionGoal
from onnxopt.samples import Feeds

ROUNDS = 8
"""Turns of every deployment, each in fresh processes."""

UNITS: Mapping[SessionGoal, str] = {"latency": "ms", "cold-start": "ms", "memory": "bytes", "throughput": "samples/s"}


@dataclass(frozen=True)
class Measured:
    """The figure of a deployment.

    Attributes:
        value: the figure in the unit of the goal.
        ratio: how many times better than the first deployment, with its interval; None for the first, and if `unsure`.
        unsure: the reason why the ratio is unknown; "" if it is known.
    """

    value: float
    ratio: Interval | None = None
    unsure: str = ""


Clock = Callable[[SessionGoal, Mapping[str, Deployment]], Mapping[str, Measured]]
"""Measures deployments by name for a goal, beside the first of them."""


@dataclass(frozen=True)
class MachineClock:
    """The clock of this machine.

    Attributes:
        inputs: alternating inputs of one sample.
        seconds: seconds of timed runs of one comparison.
        processes: the number of processes at once, with throughput as the goal.
        seed: the seed of the order of runs.
    """

    inputs: Sequence[Feeds]
    seconds: float
    processes: int
    seed: int = 0

    def __call__(self, goal: SessionGoal, deployments: Mapping[str, Deployment]) -> Mapping[str, Measured]:
        """Measure; raises as `measure_latency`."""
        if goal == "latency":
            return self._latency(deployments)
        refuse_emulation()
        if goal == "throughput":
            return self._throughput(deployments)
        once = self._start if goal == "cold-start" else self._memory
        return in_turn(deployments, once, better=lambda first, other: first / other, seed=self.seed)

    def _latency(self, deployments: Mapping[str, Deployment]) -> Mapping[str, Measured]:
        files = {name: deployment.file for name, deployment in deployments.items()}
        runtimes = {name: deployment.runtime for name, deployment in deployments.items()}
        found = measure_latency(files, self.inputs, runtimes, seconds=self.seconds, seed=self.seed)
        return {name: Measured(one.p50_ms, one.speedup, one.unsure) for name, one in found.items()}

    def _start(self, deployment: Deployment, beside: Mapping[str, Deployment]) -> float | None:
        found = footprint_of(deployment.file, self.inputs[0], deployment.runtime)
        if found is None:
            return None
        # As the clock of runs: the time of one thread stands still while other programs have the processor.
        lone = all(one.runtime.most_threads == 1 for one in beside.values())
        return found.start_own_ms if lone else found.start_ms

    def _memory(self, deployment: Deployment, beside: Mapping[str, Deployment]) -> float | None:
        found = footprint_of(deployment.file, self.inputs[0], deployment.runtime)
        return None if found is None or found.private_bytes is None else float(found.private_bytes)

    def _throughput(self, deployments: Mapping[str, Deployment]) -> Mapping[str, Measured]:
        found = measure_processes(
            {name: deployment.file for name, deployment in deployments.items()},
            self.inputs[0],
            {name: deployment.runtime for name, deployment in deployments.items()},
            processes=self.processes,
            seconds=self.seconds,
            rounds=ROUNDS,
            seed=self.seed,
        )
        return _each({name: one.rates for name, one in found.items()}, lambda first, other: other / first)


def in_turn(
    deployments: Mapping[str, Deployment],
    once: Callable[[Deployment, Mapping[str, Deployment]], float | None],
    *,
    better: Callable[[float, float], float],
    seed: int,
) -> dict[str, Measured]:
    """Measure deployments by turns, in random order; the interval comes from how the turns differ.

    Args:
        deployments: the deployments by name, the baseline first.
        once: measures a deployment, given all that it is compared with; None where the system does not report it.
        better: how many times better the second figure is than the first.
        seed: the seed of the order.
    """
    rng, names = np.random.default_rng(seed), list(deployments)
    values: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for index in rng.permutation(len(names)):
            value = once(deployments[names[index]], deployments)
            if value is not None:
                values[names[index]].append(max(value, 1e-9))
    return _each(values, better)


def _each(values: Mapping[str, Sequence[float]], better: Callable[[float, float], float]) -> dict[str, Measured]:
    """Sum up the figures of all turns by name, beside those of the first name."""
    first = next(iter(values))
    return {name: _summed_up(values[first], own, better, first=name == first) for name, own in values.items()}


def _summed_up(
    firsts: Sequence[float], own: Sequence[float], better: Callable[[float, float], float], *, first: bool
) -> Measured:
    if len(own) < ROUNDS or len(firsts) < ROUNDS:
        return Measured(float("nan"), unsure="" if first else "it could not be measured in a fresh process")
    value = float(np.median(own))
    if first:
        return Measured(value)
    ratio = interval_of_ratio([better(a, b) for a, b in zip(firsts, own, strict=True)])
    why = too_wide(ratio)
    return Measured(value, None if why else ratio, why)
