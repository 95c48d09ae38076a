"""Estimates of the time of a run from rounds, and the detection of disturbed rounds."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.latency.rounds import Round

MOST_WAITING = 0.02
"""Largest share of a round in which threads waited for a processor, if the watch runs on while they wait."""

FEWEST_CLEAN = 2
"""Fewest undisturbed rounds of a loading that counts."""

SPREAD = 1.25
"""Ratio of the median to the lowest tenth of run times above which a host without waiting statistics counts as busy."""

OFTEN = 4
"""Fewest runs of each input for separate statistics per input; with fewer, inputs of equal shapes are pooled."""


def undisturbed(rounds: Sequence[Round], pauses: bool) -> list[Round]:
    """Return the rounds in which no thread waited for a processor; all rounds if the watch pauses meanwhile."""
    if pauses:
        return list(rounds)
    return [r for r in rounds if r.waited_ns is None or r.waited_ns <= MOST_WAITING * r.length_ns]


def restless(rounds: Sequence[Round]) -> bool:
    """Return whether the spread of runs shows other programs, if the system does not report waiting."""
    if not rounds or any(r.waited_ns is not None for r in rounds):
        return False
    times = np.concatenate([r.wall_ns[0] for r in rounds])
    return bool(np.median(times) > SPREAD * np.quantile(times, 0.1))


def waiting_share(rounds: Sequence[Round]) -> float | None:
    """Return the share of the time that threads waited for a processor, 1 at most; None if unknown."""
    known = [r for r in rounds if r.waited_ns is not None]
    total = sum(r.length_ns for r in known)
    return min(sum(r.waited_ns or 0 for r in known) / total, 1.0) if total else None


def throttled_share(rounds: Sequence[Round]) -> float | None:
    """Return the share of runs in rounds in which heat slowed the processor down; None if unknown."""
    known = [r for r in rounds if r.throttled is not None]
    runs = sum(len(r.inputs) for r in known)
    return sum(len(r.inputs) for r in known if r.throttled) / runs if runs else None


def per_run_ns(rounds: Sequence[Round], shapes: Sequence[int]) -> np.ndarray:
    """Return the mean time of a run of each model over the inputs of these rounds, shape `(models,)`.

    Runs of one input (or of one shape, if each input ran only a few times) differ only by chance. Their middle half is
    averaged, which leaves out the few runs that a preemption disturbed.

    Args:
        rounds: rounds; at least one.
        shapes: a number for each input; inputs of equal shapes have the same number.
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
    """Return the mean of the middle half of the times; of three times the median."""
    count = len(times)
    cut = max(count // 4, 1 if count > 2 else 0)
    return float(np.sort(times)[cut : count - cut].mean())
