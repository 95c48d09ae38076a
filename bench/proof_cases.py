"""The cases of `bench/proof.py`: what a part of the data shows of candidates whose true drops are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from onnxopt.measure.accuracy import drop as drop_of
from onnxopt.measure.accuracy import evaluation_of
from onnxopt.measure.metrics.regression import Rmse
from onnxopt.measure.metrics.score import Score, mean_of
from onnxopt.measure.statistics import flip_draws, probability_within, share_draws
from onnxopt.search.parts import CALIBRATION_MOST, CALIBRATION_SHARE, SEARCH_MOST, SEARCH_SHARE

Sure = Callable[[], float]
BUDGET, CANDIDATES = 0.01, 20
SIZES = (200, 500, 1000, 5000)
POINTS = (0.0, 0.25, 0.5, 0.75, 0.99, 1.01, 1.25, 1.5, 2.0, 3.0)
"""True drops in points that all candidates of a case share: at 1.01 each of them is just over the budget."""
GRADED = "0..3, the faster the more"
DISCORDANCE = (0.01, 0.04)
"""Shares of samples that differ from the baseline; `--measure` shows them for trained models."""


@dataclass(frozen=True)
class Case:
    """One cell of the table.

    Attributes:
        kind: `labels`, `agreement`, `rmse` or `boxes`.
        samples: of all three parts.
        drops: true ones of the candidates, the fastest first.
        discordance: share of samples that differ from the baseline, with labels.
    """

    kind: str
    samples: int
    drops: tuple[float, ...]
    discordance: float
    name: str


def parts_of(samples: int) -> tuple[int, int]:
    """Return how many samples a search chooses on and proves on."""
    used = min(int(samples * CALIBRATION_SHARE), CALIBRATION_MOST)
    search = min(int((samples - used) * SEARCH_SHARE), SEARCH_MOST)
    return search, samples - used - search


@dataclass(frozen=True)
class Seen:
    """The drop that a part shows.

    Attributes:
        count: number of its samples.
        value: the measured drop.
        mean: mean of its plausible values.
        spread: their standard deviation.
        sure: returns the probability that the true drop is within budget, which takes long for some.
    """

    count: int
    value: float
    mean: float
    spread: float
    sure: Sure


@cache
def posterior(kind: str, better: int, worse: int, count: int) -> tuple[float, float, float]:
    """Return mean and standard deviation of the plausible drops, and the probability of being within budget."""
    draws = share_draws(worse, count, seed=0) if kind == "agreement" else flip_draws(better, worse, count, seed=0)
    return float(draws.mean()), float(draws.std()), probability_within(BUDGET, draws, count)


def counted(case: Case, count: int, rng: np.random.Generator) -> Callable[[int], Seen]:
    """Return a draw of one part: the measured drop of a candidate, and how sure it is that the true one is inside."""
    drops = np.asarray(case.drops)
    if case.kind == "agreement":
        worse = rng.binomial(count, drops)
        better = np.zeros_like(worse)
    else:
        up = np.maximum((case.discordance + drops) / 2, drops)
        down = np.maximum((case.discordance - drops) / 2, 0)
        better, worse, _ = rng.multinomial(count, np.stack([down, up, 1 - up - down], axis=-1)).T

    def of(index: int) -> Seen:
        flips = int(better[index]), int(worse[index])
        mean, spread, sure = posterior(case.kind, *flips, count)
        return Seen(count, (flips[1] - flips[0]) / count, mean, spread, lambda: sure)

    return of


def bootstrapped(case: Case, count: int, rng: np.random.Generator) -> Callable[[int], Seen]:
    """Return the same for an RMSE of one, whose candidates add errors; heavy tails, as real errors have."""
    metric = Rmse()
    error = rng.standard_t(5, count)
    error /= np.sqrt(5 / 3)

    def of(index: int) -> Seen:
        added = np.sqrt((1 + case.drops[index]) ** 2 - 1) * rng.standard_normal(count)
        rows = [np.square(values)[:, None] for values in (error, error + added)]
        before, after = (metric.value(one) for one in rows)
        value, spread = after - before, float(np.std(rows[1] - rows[0]) / (2 * after * np.sqrt(count)))
        return Seen(count, value, value, spread, lambda: bootstrapped_probability(metric, rows))

    return of


@dataclass(frozen=True)
class Found(Score):
    """The share of objects found: rows of the number found and of the number there, most of them of no object."""

    name: str = "found"
    output: str | None = None
    unit = "share"
    bounded = True
    relative = True
    most_lost = 1.0

    def values(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        found, there = mean_of(rows, counts).T
        return np.divide(found, there, out=np.full(len(counts), np.nan), where=there > 0)

    def telling(self, rows: np.ndarray) -> int:
        there = rows[:, 1]
        return round(float(there.sum() ** 2 / (there**2).sum()))


WITH_OBJECTS, MOST_OBJECTS = 0.2, 5
"""Share of images with objects, and the most in one of them."""


def boxed(case: Case, count: int, rng: np.random.Generator) -> Callable[[int], Seen]:
    """Return the same for a detector that loses all objects of an image or none."""
    metric = Found()
    there = np.where(rng.random(count) < WITH_OBJECTS, rng.integers(1, MOST_OBJECTS + 1, count), 0)
    there[0] = 1  # without any, a search does not begin

    def of(index: int) -> Seen:
        found = np.where(rng.random(count) < case.drops[index], 0, there)
        rows = [np.stack([some, there], axis=-1).astype(np.float64) for some in (there, found)]
        before, after = (metric.value(one) for one in rows)
        lost = there - found - (before - after) * there
        value, spread = before - after, float(np.sqrt(np.mean(lost**2) / count) / there.mean())
        return Seen(count, value, value, spread, lambda: bootstrapped_probability(metric, rows))

    return of


def bootstrapped_probability(metric: Score, rows: Sequence[np.ndarray]) -> float:
    """Return the probability that a bootstrap gives: it takes long, and only finalists need one."""
    return drop_of(*(evaluation_of(metric, one, 0) for one in rows)).probability_within(BUDGET)


def cases(quick: bool) -> list[Case]:
    graded = tuple(np.linspace(0.03, 0.0, CANDIDATES).tolist())
    found = []
    for samples in SIZES:
        for point in POINTS:
            same, name = (point / 100,) * CANDIDATES, f"{point:g}"
            found.append(Case("agreement", samples, same, 0.0, name))
            found += [Case("labels", samples, same, share, name) for share in DISCORDANCE]
        found.append(Case("agreement", samples, graded, 0.0, GRADED))
        found += [Case("labels", samples, graded, share, GRADED) for share in DISCORDANCE]
    for samples in (200, 1000):
        found += [
            Case("rmse", samples, (point / 100,) * CANDIDATES, 0.0, f"{point:g}") for point in (0.0, 0.99, 1.01, 2.0)
        ]
    for samples in (500, 5000):
        found += [
            Case("boxes", samples, (point / 100,) * CANDIDATES, 0.0, f"{point:g}") for point in (0.0, 0.5, 1.01, 2.0)
        ]
    return [case for case in found if not quick or (case.samples == 1000 and case.name in ("0", "1.01", GRADED))]
