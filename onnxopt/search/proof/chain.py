"""The choice of finalists for the proof, by their gains and their chances to pass it.

They form a chain that is tried from the smallest gain to the largest, up to the first that is not proven: with the
order fixed before a hold-out sample is seen, each of them may take the whole accepted risk.

Source: Maurer, Hothorn and Lehmacher, "Multiple comparisons in drug clinical trials and preclinical assays: a-priori
ordered hypotheses", 1995; for the choice of models: Angelopoulos et al., "Learn then test", 2021.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

import numpy as np
from scipy import special

from onnxopt.measure.statistics import Drop
from onnxopt.samples.core import Array
from onnxopt.search.acceptance import LIKELY, MOST_PROOFS, SAME, Acceptance
from onnxopt.search.trial import Trial

CONSIDERED = 20
"""Number of finalists, the best first, of which the chain is chosen."""

_ROUNDING = 1e-12
"""A drop equal to the budget up to this is within it."""

WORTH = 0.5
"""Worth of a likely result, by that of a proven one of the same gain."""

ATTEMPT = 0.002
"""Gain in expectation that pays for the time of one more finalist."""

Chance = Callable[[Trial, float], tuple[float, float]]
"""The probabilities that a finalist is proven with a share of the accepted risk, and that it is proven or likely."""


def chance_by_trial(bar: Acceptance, holdout: int) -> Chance:
    """Return the chances on `holdout` samples as the search samples predict them."""

    def chance(trial: Trial, share: float) -> tuple[float, float]:
        if trial.drop is None:
            return 0.0, 0.0
        proven = chance_of_proof(trial.drop, bar.allowed_drop, bar.asked(share), holdout)
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
    room = budget - float(special.ndtri(confidence)) * spread / math.sqrt(samples) - middle
    error = spread * math.sqrt(1 / max(drop.n, 1) + 1 / samples)
    return float(special.ndtr(room / error)) if error > 0 else float(room >= -_ROUNDING)


def best_chain(
    bar: Acceptance,
    finalists: Sequence[Trial],
    *,
    chance: Chance,
    share: float = 1.0,
    most: int = MOST_PROOFS,
    floor: float = 0.0,
) -> list[Trial]:
    """Return the finalists to try on the hold-out samples, in this order: that of their gains, the smallest first.

    They are those with the largest expected gain: with a bold finalist alone nothing may be proven, and each further
    one before it may end the chain.

    Args:
        bar: the limits of the search.
        finalists: trials within budget, the best first.
        chance: the chances of each.
        share: share of the accepted risk that each takes.
        most: the largest number of finalists.
        floor: gain without a success, that of an early proof; only finalists that gain more are tried.
    """
    some = [t for t in finalists[:CONSIDERED] if not floor or 1 - floor >= SAME * bar.rank(t)]
    if not some:
        return []
    behind = np.array(bar.steps_behind(some))
    # The smallest gain first; of those that gain the same, the first of the finalists loses least.
    order = np.argsort(-behind, kind="stable")
    some, behind = [some[number] for number in order], behind[order]
    gains = 1 - min(map(bar.rank, some)) * SAME**behind
    chances = np.array([chance(trial, share) for trial in some])
    best, best_gain = list[Trial](), floor
    for length in range(1, min(most, len(some)) + 1):
        chains = _chains(len(some), length)
        # What gains the same adds nothing, and may end the chain.
        chains = chains[(np.diff(behind[chains], axis=1) < 0).all(axis=1)]
        if not len(chains):
            break
        expected = _expected(gains[chains], chances[chains, 0], chances[chains, 1], floor) - ATTEMPT * length
        if expected.max() > best_gain:
            best, best_gain = [some[number] for number in chains[expected.argmax()]], float(expected.max())
    # Without any chance the measurement still gives a reason.
    return best if best or floor else list(finalists[:1])


@cache
def _chains(count: int, length: int) -> Array:
    """Return all chains of so many of `count` finalists, as rows of numbers in ascending order."""
    return np.array(list(combinations(range(count), length)))


def _expected(gains: Array, proven: Array, likely: Array, floor: float) -> Array:
    """Return the expected gain of each chain: of its last proven one, else of the early proof, else of a likely one.

    Where nothing is proven, the likely one with the largest gain ships; behind an early proof there is none.

    Args:
        gains: gains of shape (chains, length), of the finalists in the order in which they are tried.
        proven: chances to be proven, of the same shape.
        likely: chances to be proven or likely, of the same shape.
        floor: gain of the early proof; 0 without one.
    """
    reached = np.cumprod(proven, axis=1)
    before = np.roll(reached, 1, axis=1)
    before[:, 0] = 1.0
    last = np.roll(gains, 1, axis=1)
    last[:, 0] = floor
    gain = (before * (1 - proven) * last).sum(axis=1) + reached[:, -1] * gains[:, -1]
    if floor:
        return np.asarray(gain)
    missed = 1 - proven[:, 0]
    only = likely.copy()
    only[:, 0] = np.divide(likely[:, 0] - proven[:, 0], missed, out=np.zeros_like(missed), where=missed > 0)
    unlikely = np.roll(np.cumprod(1 - only[:, ::-1], axis=1), 1, axis=1)
    unlikely[:, 0] = 1.0
    likely_gain = (unlikely * only[:, ::-1] * gains[:, ::-1]).sum(axis=1)
    return np.asarray(gain + missed * WORTH * likely_gain)
