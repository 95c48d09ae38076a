"""Rounds of alternating runs: each round runs all models equally often on the same inputs, in random order."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.measure.latency.watch import Watch

BLOCK_NS = 2_000_000
"""Shortest block of timed runs of the fastest model: long beside the clock's resolution and a switch of models."""

LONGEST_BLOCK_NS = 100_000_000
"""Longest block of the slowest model, which runs as often as the fastest."""

SETTLE_BELOW_NS = 100_000_000
"""If all models are faster than this, a block starts with an untimed run, which refills the caches."""

WARM_UP_NS = 250_000_000
"""Longest warm-up of one session; at most half of the time for timed runs, but never less than the next constant."""

LEAST_WARM_UP_NS = 20_000_000


@dataclass(frozen=True)
class Round:
    """One turn of every model.

    Attributes:
        own_ns: time of each run by the watch, per model.
        wall_ns: wall-clock time of each run, per model.
        inputs: index of the input of each run, the same for every model.
        waited_ns: time that threads waited for a processor in this round; None if unknown.
        length_ns: length of the round.
        throttled: whether heat slowed the processor down in it; None if unknown.
    """

    own_ns: tuple[np.ndarray, ...]
    wall_ns: tuple[np.ndarray, ...]
    inputs: np.ndarray
    waited_ns: int | None
    length_ns: int
    throttled: bool | None = None


def race(
    runs: Sequence[Sequence[Callable[[], Any]]],
    *,
    budget_ns: int,
    min_rounds: int,
    warmup: int,
    rng: np.random.Generator,
    watch: Watch,
    start: int = 0,
) -> list[Round]:
    """Time models in alternating runs for `budget_ns` and at least `min_rounds` rounds.

    Args:
        runs: for each model, one run per input; all models have the same inputs.
        budget_ns: wall-clock time.
        min_rounds: fewest rounds, even if they take longer than the budget.
        warmup: untimed runs of each model; at least one per input, fewer if they take long.
        rng: random generator for the order of models.
        watch: the clock of the runs.
        start: input of the first timed run; the next ones follow in order.
    """
    estimates = np.zeros(len(runs))
    longest_ns = min(WARM_UP_NS, max(budget_ns // (2 * len(runs)), LEAST_WARM_UP_NS))
    for index in rng.permutation(len(runs)):
        estimates[index] = _warm_up(runs[index], warmup, watch, longest_ns)
    repeats = repeats_of(estimates)
    settle = bool(estimates.max() < SETTLE_BELOW_NS)
    rounds: list[Round] = []
    with _no_garbage_collection():
        begun_ns = watch.wall()
        while len(rounds) < min_rounds or watch.wall() - begun_ns < budget_ns:
            inputs = (start + len(rounds) * repeats + np.arange(repeats)) % len(runs[0])
            own: list[np.ndarray] = [np.empty(0)] * len(runs)
            wall: list[np.ndarray] = [np.empty(0)] * len(runs)
            heat_before, waited_before, round_ns = watch.throttle(), watch.waited(), watch.wall()
            for index in rng.permutation(len(runs)):
                turn = [runs[index][int(i)] for i in inputs]
                if settle:
                    runs[index][int(inputs[0] - 1) % len(runs[0])]()
                own[index], wall[index] = _block(turn, watch)
            length_ns, waited_after = watch.wall() - round_ns, watch.waited()
            waited = None if waited_before is None or waited_after is None else waited_after - waited_before
            throttled = _throttled(heat_before, watch.throttle())
            rounds.append(Round(tuple(own), tuple(wall), inputs, waited, length_ns, throttled))
    return rounds


def _throttled(before: tuple[bool, int] | None, after: tuple[bool, int] | None) -> bool | None:
    """Return whether the processor was slowed down at either end, or its counters grew in between."""
    return None if before is None or after is None else before[0] or after[0] or after[1] > before[1]


def repeats_of(estimates_ns: np.ndarray) -> int:
    """Return the runs of every model in a round: equally many, because fewer runs are disturbed more easily."""
    wanted = np.ceil(BLOCK_NS / max(float(estimates_ns.min()), 1.0))
    most = LONGEST_BLOCK_NS // max(float(estimates_ns.max()), 1.0)
    return int(max(1, min(wanted, most)))


def _block(turn: Sequence[Callable[[], Any]], watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    own, wall = watch.own, watch.wall
    stamps = [(wall(), own())]
    for run in turn:
        run()
        stamps.append((wall(), own()))
    found = np.diff(np.array(stamps, dtype=np.int64), axis=0)
    return found[:, 1], found[:, 0]


def _warm_up(runs: Sequence[Callable[[], Any]], times: int, watch: Watch, longest_ns: int) -> float:
    """Return the median time of a run in ns."""
    begun_ns, taken = watch.wall(), list[int]()
    while not taken or (len(taken) < max(times, len(runs)) and watch.wall() - begun_ns < longest_ns):
        before = watch.own()
        runs[len(taken) % len(runs)]()
        taken.append(watch.own() - before)
    return float(np.median(taken))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # No collection first: it takes a third of a second in a process that has loaded much, every epoch anew, and a
    # collector that is off disturbs no run, however much garbage lies about.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
