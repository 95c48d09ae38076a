"""From rounds to the time of a run, and from the times of several loadings to a speed-up or the reason for none."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.latency.rounds import Round

MOST_WAITING = 0.02
"""Share of a round that threads may have waited for a processor, where the watch runs on meanwhile."""

FEWEST_CLEAN = 2
"""Undisturbed rounds that make a loading count."""

SPREAD = 1.25
"""Median over the lower tenth of a run's time, above which a host that tells nothing about waiting is called busy."""

OFTEN = 4
"""Runs of each single input from which on inputs are held apart; with fewer, those of equal shapes are one."""


def undisturbed(rounds: Sequence[Round], pauses: bool) -> list[Round]:
    """Return the rounds in which no thread waited for a processor, or all where the watch stands still meanwhile."""
    if pauses:
        return list(rounds)
    return [r for r in rounds if r.waited_ns is None or r.waited_ns <= MOST_WAITING * r.length_ns]


def restless(rounds: Sequence[Round]) -> bool:
    """Return whether runs differ so much that others must have been in the way, where nothing else tells."""
    if not rounds or any(r.waited_ns is not None for r in rounds):
        return False
    times = np.concatenate([r.wall_ns[0] for r in rounds])
    return bool(np.median(times) > SPREAD * np.quantile(times, 0.1))


def waiting_share(rounds: Sequence[Round]) -> float | None:
    """Return the share of the time that threads waited for a processor, 1 at most; None where nothing tells."""
    known = [r for r in rounds if r.waited_ns is not None]
    total = sum(r.length_ns for r in known)
    return min(sum(r.waited_ns or 0 for r in known) / total, 1.0) if total else None


def per_run_ns(rounds: Sequence[Round], shapes: Sequence[int]) -> np.ndarray:
    """Return the mean time of a run of each model over the inputs of these rounds, shape `(models,)`.

    Runs of one input (or of one shape, where each input was run only a few times) vary only by chance, so the middle
    half of them is averaged: a preemption spoils a run or two, and those are left out.

    Args:
        rounds: at least one.
        shapes: for each input a number, the same for those of equal shapes.
    """
    inputs = np.concatenate([r.inputs for r in rounds])
    rare = np.bincount(inputs)[np.unique(inputs)].min() < OFTEN
    kinds = np.asarray(shapes)[inputs] if rare else inputs
    return np.array([_mean_of(np.concatenate(own), kinds) for own in zip(*(r.own_ns for r in rounds), strict=True)])


def _mean_of(times: np.ndarray, kinds: np.ndarray) -> float:
    total = 0.0
    for kind in np.unique(kinds):
        some = times[kinds == kind]
        total += middle_mean(some) * len(some)
    return max(total / len(times), 1.0)


def middle_mean(times: np.ndarray) -> float:
    """Return the mean of the middle half; of three the median."""
    count = len(times)
    cut = max(count // 4, 1 if count > 2 else 0)
    return float(np.sort(times)[cut : count - cut].mean())
