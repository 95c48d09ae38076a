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

WORTH = 0.5
"""Worth of a likely result, by that of a proven one of the same gain."""

Chance = Callable[[Trial, int], tuple[float, float]]
"""The probabilities that a finalist is proven, and that it is proven or likely, as attempt 0, 1, ..."""


def chance_by_trial(bar: Acceptance, holdout: int) -> Chance:
    """Return the chances on `holdout` samples as the search samples predict them."""

    def chance(trial: Trial, attempt: int) -> tuple[float, float]:
        if trial.drop is None:
            return 0.0, 0.0
        proven = chance_of_proof(trial.drop, bar.allowed_drop, bar.asked(attempt), holdout)
        if bar.require == "proven":
            return proven, proven
        return proven, max(proven, chance_of_proof(trial.drop, bar.allowed_drop, LIKELY, holdout))

    return chance


def chance_of_proof(drop: Drop, budget: float, confidence: float, samples: int) -> float:
    """Return the chance that `samples` other samples prove a drop of at most `budget` with that confidence.

    By the normal approximation: the true drop is as its plausible values are, whose mean is above the measured drop
    where no loss was seen in a few samples, and the drop of the other samples differs from it.
    """
    counted = samples * drop.counted // max(drop.n, 1)
    if drop.broken or not math.isfinite(drop.value) or (counted + 1) / (counted + 2) < confidence:
        return 0.0
    draws = drop.draws[~np.isnan(drop.draws)]
    middle, spread = (float(draws.mean()), float(draws.std()) * math.sqrt(drop.n)) if len(draws) else (drop.value, 0.0)
    room = budget - float(stats.norm.ppf(confidence)) * spread / math.sqrt(samples) - middle
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
        chance: the chances of each as attempt 0, 1, ...
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
    """Return the expected gain: of the first proven one, else of the early proof, else of the first likely one."""
    gain, likely_gain, failed, unlikely = 0.0, 0.0, 1.0, 1.0
    for attempt, trial in enumerate(chosen):
        proven, likely = chance(trial, attempt)
        gain += failed * proven * bar.gain(trial)
        failed *= 1 - proven
        only_likely = (likely - proven) / (1 - proven) if proven < 1 else 0.0
        likely_gain += unlikely * only_likely * bar.gain(trial)
        unlikely *= 1 - only_likely
    return gain + failed * (floor if floor > 0 else WORTH * likely_gain)
