"""Intervals and probabilities of measured figures, given their number of samples."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np

from onnxopt.samples.core import Array

Statistic = Callable[[Array], Array]
"""A figure of `n` rows under resampling: from counts of each row, `(resamples, n)`, to `(resamples,)`."""

LEVEL = 0.95
_CHUNK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A measured `value` and the interval that holds the true one with probability `level`."""

    low: float
    value: float
    high: float
    level: float = LEVEL

    def excludes(self, value: float) -> bool:
        """Return whether `value` is outside the interval: then the difference from it is significant."""
        return not self.low <= value <= self.high


def bootstrap_draws(statistic: Statistic, size: int, *, seed: int, resamples: int = 1000) -> Array:
    """Return the statistic of `resamples` bootstrap resamples of `size` rows, shape `(resamples,)`.

    Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // size)
    draws = []
    for start in range(0, resamples, chunk):
        some = min(chunk, resamples - start)
        drawn = rng.integers(0, size, (some, size)) + np.arange(some)[:, None] * size
        counts = np.bincount(drawn.ravel(), minlength=some * size).reshape(some, size)
        draws.append(np.asarray(statistic(counts), dtype=np.float64))
    return np.concatenate(draws)


WIDENING = 2.0
"""Bootstrap draws are moved away from the value by 1 + WIDENING / sqrt(size): 20 % with 100 samples, 3 % with 4,000."""


def corrected_draws(
    value: float,
    statistic: Statistic,
    size: int,
    draws: Array,
    *,
    telling: int | None = None,
    accelerated: bool = True,
) -> Array:
    """Return `bootstrap_draws` of a statistic of `size` rows, corrected for few samples, in the same order.

    Interval and probability come from them. Plain draws are too close together for few samples and for errors with
    heavy tails, and call too many models within the budget: the share of wrong calls exceeds the stated risk by a term
    of the order of 1 / sqrt(size). `bench/proof.py` measures it.

    Args:
        value: the value of the statistic, on all rows.
        statistic: the statistic that was drawn.
        size: rows.
        draws: the draws of the statistic; NaN stays NaN.
        telling: rows that the statistic depends on; None for all.
        accelerated: correct bias and skewness first, as BCa intervals do, which takes `size` further evaluations.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 14; Hall, "The Bootstrap and
    Edgeworth Expansion", 1992, chapter 3.
    """
    usable = draws[~np.isnan(draws)]
    if size < 2 or not len(usable) or np.isnan(value):
        return draws
    found = _accelerated(statistic, size, value, usable) if accelerated else usable
    moved = np.array(draws)
    telling = size if telling is None else max(telling, 1)
    moved[~np.isnan(draws)] = value + (1 + WIDENING / math.sqrt(telling)) * (found - value)
    return moved


def _scipy(part: str) -> Any:
    """Return a part of scipy, which takes a second to import: few commands judge."""
    return import_module(f"scipy.{part}")


def _accelerated(statistic: Statistic, size: int, value: float, draws: Array) -> Array:
    bias, acceleration = _bca_corrections(statistic, size, value, draws)
    ranks = np.empty(len(draws))
    ranks[np.argsort(draws, kind="stable")] = np.arange(1, len(draws) + 1)
    z = _scipy("special").ndtri((ranks - 0.5) / len(draws))
    stretch = np.maximum(1 - acceleration * (bias + z), np.finfo(np.float64).tiny)
    return np.asarray(np.quantile(draws, _scipy("special").ndtr(bias + (bias + z) / stretch)))


def interval_of_draws(value: float, draws: Array, *, level: float = LEVEL) -> Interval:
    """Return the interval of the middle `level` of `draws`, extended to include `value`."""
    draws = draws[~np.isnan(draws)]
    if not len(draws) or np.isnan(value):
        return Interval(float("-inf"), value, float("inf"), level)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(min(float(low), value), value, max(float(high), value), level)


def _bca_corrections(statistic: Statistic, size: int, value: float, draws: Array) -> tuple[float, float]:
    below = float(np.mean(draws < value) + 0.5 * np.mean(draws == value))
    if not 0 < below < 1:
        return 0.0, 0.0
    left_out = _jackknife(statistic, size)
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum())
    # A statistic that no single row changes, or that needs every row, has no acceleration.
    if not np.isfinite(spread) or spread == 0:
        return 0.0, 0.0
    return float(_scipy("special").ndtri(below)), float((deviations**3).sum() / (6 * spread**1.5))


def _jackknife(statistic: Statistic, size: int) -> Array:
    chunk = max(1, _CHUNK_ELEMENTS // size)
    values = []
    for start in range(0, size, chunk):
        left_out = np.arange(start, min(start + chunk, size))
        counts = np.ones((len(left_out), size), dtype=np.int64)
        counts[np.arange(len(left_out)), left_out] = 0
        values.append(np.asarray(statistic(counts), dtype=np.float64))
    return np.concatenate(values)


def wilson(successes: int, size: int, level: float = LEVEL) -> Interval:
    """Return the interval of a proportion; its width is positive also at 0 and 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if not size:
        return Interval(0.0, float("nan"), 1.0, level)
    bounds = _scipy("stats").binomtest(successes, size).proportion_ci(level, method="wilson")
    value = successes / size
    return Interval(min(float(bounds.low), value), value, max(float(bounds.high), value), level)


def mcnemar(better: int, worse: int) -> float:
    """Return the exact two-sided p-value of the hypothesis that equally many samples got worse and better.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    return float(_scipy("stats").binomtest(worse, better + worse).pvalue) if better + worse else 1.0


def ratio_interval(ratios: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the interval of a ratio measured in several independent epochs (Student's t on the logarithms).

    Rounds of one epoch share chance conditions (places in memory, clock speed), so they are not independent: a
    bootstrap over rounds found a difference between a model and itself in most trials.

    Source: Kalibera and Jones, "Rigorous benchmarking in reasonable time", 2013.
    """
    logs = np.log(ratios)
    value = float(np.exp(logs.mean()))
    if len(logs) < 2:
        return Interval(0.0, value, float("inf"), level)
    margin = float(_scipy("special").stdtrit(len(logs) - 1, (1 + level) / 2) * logs.std(ddof=1) / np.sqrt(len(logs)))
    with np.errstate(over="ignore"):  # infinite where epochs have nothing in common
        widened = float(np.exp(margin))
    return Interval(value / widened, value, value * widened, level)


LOSS_UNSEEN = 1.0
"""Added to the count of samples that got worse, which makes the upper bound of their share exact."""

RARE_UNSEEN = 2.0
"""Added to the loss of samples of unequal weight, in samples: the exact bound adds one where all weigh the same."""

_SAME_LEAST = 0.5


def flip_draws(better: int, worse: int, size: int, *, seed: int, draws: int = 100_000) -> Array:
    """Return draws of the true drop of a 0/1 score, given how many of `size` paired samples got better and worse.

    The drop is the share that got worse minus the share that got better. The first is drawn by its exact upper bound,
    the second by its exact lower bound: with a symmetric prior, a search would call too many models proven whose
    samples show no loss at all (bench/proof.py).

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    1934.
    """
    rng = np.random.default_rng(seed)
    lost = rng.gamma(worse + LOSS_UNSEEN, size=draws)
    gained = rng.gamma(better, size=draws) if better else np.zeros(draws)
    same = rng.gamma(max(size - better - worse, _SAME_LEAST), size=draws)
    return np.asarray((lost - gained) / (lost + gained + same))


def share_draws(count: int, size: int, *, seed: int, draws: int = 100_000) -> Array:
    """Return draws of the true share of a loss observed `count` times in `size` samples, by its exact upper bound.

    Source: as `flip_draws`.
    """
    rng = np.random.default_rng(seed)
    return np.asarray(rng.beta(count + LOSS_UNSEEN, max(size - count, _SAME_LEAST), draws))


def probability_within(budget: float, draws: Array, size: int, most_lost: float | None = None) -> float:
    """Return the probability that the true drop is at most `budget`, given draws of it from `size` samples.

    It is never 0 or 1: resampling cannot draw an unseen kind of sample, so the result is limited by Laplace's rule of
    succession to 1/(n+2) .. (n+1)/(n+2). Where such a sample may lose up to `most_lost`, the share of such samples must
    be below budget / most_lost: with none among `size`, its upper bound is exact, as in `share_draws`.
    """
    usable = draws[~np.isnan(draws)]
    if not len(usable):
        return 0.0
    slack = 1e-12  # a drop equal to the budget up to rounding is within it
    share = float(np.mean(usable <= budget + slack))
    most = (size + 1) / (size + 2)
    if most_lost is not None:
        most = min(most, 1 - (1 - min(max(budget / most_lost, 0.0), 1.0)) ** size)
    return max(min(share, most), 1 / (size + 2))


@dataclass(frozen=True, eq=False)
class Drop:
    """The drop from the baseline to a candidate on the same samples.

    Attributes:
        value: drop in the metric's unit, positive if worse; infinite if one of the two has no value.
        interval: interval of `value`.
        n: number of paired samples.
        better: number of samples that only the candidate has right, or with fewer errors; None if undefined.
        worse: number of samples that only the baseline has right, or with fewer errors; None if undefined.
        p_value: p-value of "no difference" (exact McNemar test); None if undefined, and for fidelity.
        broken: whether the candidate gave NaN or infinities where the baseline did not; it is within no budget.
        draws: plausible values of the true drop.
        gross: loss of the samples that got worse, without the gains of others; None if only the net drop counts.
        telling: number of samples that the figure depends on; None for all.
        most_lost: largest drop by a sample of a kind that was not seen; None where resampling shows it.
    """

    value: float
    interval: Interval
    n: int
    better: int | None
    worse: int | None
    p_value: float | None
    broken: bool
    draws: Array = field(repr=False)
    gross: float | None = None
    telling: int | None = None
    most_lost: float | None = None

    @property
    def counted(self) -> int:
        """The number of samples that prove something."""
        return self.n if self.telling is None else self.telling

    def of_equal_outputs(self) -> "Drop":
        """Return the drop of a model whose outputs are equal by construction: samples not seen lose nothing either.

        A loss that was measured stays. Every sample counts, because its outputs are compared whatever they show.
        """
        if self.broken or self.value > 0 or self.worse:
            return self
        return replace(self, draws=np.full(1000, self.value), telling=None, most_lost=None)

    def evened_out(self, budget: float) -> bool:
        """Return whether the drop is within `budget` only by gains, because the losses alone exceed it."""
        return self.gross is not None and self.gross > budget + 1e-12

    def within(self, budget: float) -> bool:
        """Return whether the measured drop is at most `budget`, up to rounding."""
        return not self.broken and self.value <= budget + 1e-12

    def probability_within(self, budget: float) -> float:
        """Return the probability that the true drop is at most `budget`; 0 when `broken`."""
        return 0.0 if self.broken else probability_within(budget, self.draws, self.counted, self.most_lost)

    def samples_needed(self, budget: float, confidence: float) -> int | None:
        """Return the number of samples that would prove a drop of at most `budget`, if they are like these.

        Returns:
            None if no number of samples would, because the measured drop is over the budget.
        """
        spread, room = float(np.std(self.draws)), budget - self.value
        if self.broken or not room > 0 or not math.isfinite(spread):
            return None
        # By the normal approximation the standard error falls with the square root of the number; the rule of
        # succession limits the probability that a few samples can prove.
        errors_apart = max(float(_scipy("special").ndtri(confidence)), 0.0)
        by_spread = self.n * (errors_apart * spread / room) ** 2
        fewest = (2 * confidence - 1) / (1 - confidence)
        if self.most_lost is not None:
            fewest = max(fewest, math.log(1 - confidence) / math.log(1 - min(budget / self.most_lost, 1 - 1e-9)))
        return math.ceil(max(by_spread, fewest * self.n / max(self.counted, 1), 1))
