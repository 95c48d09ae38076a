"""The choice of finalists for the proof, by their gains and their chances to pass it."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from scipy import stats

from onnxopt.measure.statistics import Drop
from onnxopt.search.acceptance import LIKELY, MOST_PROOFS, Acceptance
from onnxopt.search.trial import Trial

CONSIDERED = 20
"""Number of finalists, the best first, of which the attempts are chosen."""

_ROUNDING = 1e-12
"""A drop equal to the budget up to this is within it."""

Chance = Callable[[Trial, int], float]
"""The probability that a finalist passes as attempt 0, 1, ..."""


def chance_by_trial(bar: Acceptance, holdout: int) -> Chance:
    """Return the chances on `holdout` samples as the search samples predict them; a likely result counts half."""

    def chance(trial: Trial, attempt: int) -> float:
        if trial.drop is None:
            return 0.0
        proven = chance_of_proof(trial.drop, bar.allowed_drop, bar.asked(attempt), holdout)
        if bar.require == "proven":
            return proven
        return (proven + chance_of_proof(trial.drop, bar.allowed_drop, LIKELY, holdout)) / 2

    return chance


def chance_of_proof(drop: Drop, budget: float, confidence: float, samples: int) -> float:
    """Return the chance that `samples` other samples prove a drop of at most `budget` with that confidence.

    By the normal approximation: both the measured drop and that of the other samples differ from the true one.
    """
    counted = samples * drop.counted // max(drop.n, 1)
    if drop.broken or not math.isfinite(drop.value) or (counted + 1) / (counted + 2) < confidence:
        return 0.0
    draws = drop.draws[~np.isnan(drop.draws)]
    spread = float(np.std(draws)) * math.sqrt(drop.n) if len(draws) else 0.0
    room = budget - float(stats.norm.ppf(confidence)) * spread / math.sqrt(samples) - drop.value
    error = spread * math.sqrt(1 / max(drop.n, 1) + 1 / samples)
    return float(stats.norm.cdf(room / error)) if error > 0 else float(room >= -_ROUNDING)


def best_attempts(
    bar: Acceptance,
    finalists: Sequence[Trial],
    *,
    chance: Chance,
    most: int = MOST_PROOFS,
    floor: float = 0.0,
    sharing: Trial | None = None,
) -> list[Trial]:
    """Return the finalists to try on the hold-out samples, in this order, up to the first success.

    They are those with the largest expected gain: a bold finalist alone often fails, and a sure one is often slower. In
    a given choice the best comes first, since the first success ends the attempts.

    Args:
        bar: the limits of the search.
        finalists: trials within budget, the best first.
        chance: the chance of each as attempt 0, 1, ...
        most: the largest number of attempts.
        floor: gain without a success, that of an early proof; finalists with a smaller one are not tried.
        sharing: a finalist without which there is one attempt fewer: the early proof has taken its share of the risk.
    """
    some = [trial for trial in finalists[:CONSIDERED] if bar.gain(trial) >= floor]
    if sharing is not None and sharing not in some and sharing in finalists:
        some.append(sharing)
    best: tuple[Trial, ...] = ()
    best_gain = floor - 1.0
    for count in range(min(most, len(some)), -1, -1):
        for chosen in combinations(some, count):
            if count == MOST_PROOFS and sharing is not None and sharing not in chosen:
                continue
            expected = _expected(bar, chosen, chance, floor)
            if expected > best_gain + 1e-9:
                best, best_gain = chosen, expected
    return list(best)


def _expected(bar: Acceptance, chosen: Sequence[Trial], chance: Chance, floor: float) -> float:
    gain, failed = 0.0, 1.0
    for attempt, trial in enumerate(chosen):
        passed = chance(trial, attempt)
        gain += failed * passed * bar.gain(trial)
        failed *= 1 - passed
    return gain + failed * floor
