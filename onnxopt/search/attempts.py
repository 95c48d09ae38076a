"""The choice of finalists for the proof, by their gains and their chances to pass it."""

from collections.abc import Callable, Sequence
from itertools import combinations

from onnxopt.measure.statistics import Drop
from onnxopt.search.acceptance import LIKELY, MOST_PROOFS, Acceptance
from onnxopt.search.trial import Trial

CONSIDERED = 20
"""Number of finalists, the best first, of which the attempts are chosen."""

Chance = Callable[[Trial, int], float]
"""The probability that a finalist passes as attempt 0, 1, ..."""


def chance_by_trial(bar: Acceptance, holdout: int) -> Chance:
    """Return the chances on `holdout` samples as the search samples predict them; a likely result counts half."""

    def chance(trial: Trial, attempt: int) -> float:
        if trial.drop is None:
            return 0.0
        proven = _passes(trial.drop, bar, bar.asked(attempt), holdout)
        return proven if bar.require == "proven" else (proven + _passes(trial.drop, bar, LIKELY, holdout)) / 2

    return chance


def _passes(drop: Drop, bar: Acceptance, asked: float, holdout: int) -> float:
    return drop.chance_of_proof(bar.allowed_drop, asked, holdout)


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
