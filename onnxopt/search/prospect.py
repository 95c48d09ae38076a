"""How much can be proved with the samples there are: said before a search begins, not after it."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from onnxopt.measure.metrics.score import Score, difference, percent
from onnxopt.measure.statistics import LOSS_UNSEEN, flip_draws

_MOST_SAMPLES = 1 << 24


@dataclass(frozen=True)
class Prospect:
    """The best case of a proof: a candidate that loses nothing on the hold-out part.

    Attributes:
        holdout: samples kept for the proof.
        allowed: drop that the budget allows, in the metric's unit.
        asked: probability that the first finalist has to reach.
        unit: of the metric.
        smallest: drop that such a candidate is proved to be inside; None where the metric does not tell beforehand.
        needed: hold-out samples with which the budget would be proved; None likewise.
    """

    holdout: int
    allowed: float
    asked: float
    unit: str
    smallest: float | None
    needed: int | None

    @property
    def possible(self) -> bool:
        """Whether any candidate can be proved to be inside the budget."""
        if self.smallest is not None:
            return self.smallest <= self.allowed
        return self.needed is None or self.holdout >= self.needed

    def sentence(self) -> str:
        """Return in one line what can be proved."""
        asked = percent(self.asked, limit=True)
        if self.smallest is None:
            if self.possible:
                return f"{self.holdout} hold-out samples; a drop inside the budget is proved at {asked}."
            return f"{self.holdout} hold-out samples prove nothing at {asked}: {self.needed} are needed."
        smallest = difference(self.smallest, self.unit)
        said = f"{self.holdout} hold-out samples prove nothing at {asked}"
        if self.smallest < 1:
            said = (
                f"{self.holdout} hold-out samples prove a drop of at most {smallest} at {asked}, where nothing is lost"
            )
        if self.possible:
            return f"{said}; the budget is {difference(self.allowed, self.unit)}."
        needed = "no number of samples" if self.needed is None else f"about {self.needed} such samples"
        return f"{said}; to prove the budget of {difference(self.allowed, self.unit)} takes {needed}."


def prospect_of(metric: Score, holdout: int, allowed: float, asked: float) -> Prospect:
    """Return what `holdout` samples can prove of `metric`.

    Right-or-wrong metrics are exact, by the posterior that the proof itself uses; of others only the number of samples
    below which no probability reaches `asked` is known beforehand (Laplace's rule of succession).
    """
    fewest = int(np.ceil((2 * asked - 1) / (1 - asked)))
    if not metric.binary:
        return Prospect(holdout, allowed, asked, metric.unit, None, max(fewest, 1))
    smallest = _smallest(holdout, asked, relative=metric.relative)
    return Prospect(holdout, allowed, asked, metric.unit, smallest, _needed(allowed, asked, fewest, metric.relative))


def _smallest(count: int, asked: float, *, relative: bool) -> float:
    """Return the drop that `count` samples without a single flip prove."""
    if (count + 1) / (count + 2) < asked:
        return 1.0
    if relative:
        return float(stats.beta.ppf(asked, LOSS_UNSEEN, count))
    return float(np.quantile(flip_draws(0, 0, count, seed=0), asked))


def _needed(allowed: float, asked: float, fewest: int, relative: bool) -> int | None:
    """Return the fewest samples whose smallest drop is inside the budget; None where no number is enough."""
    if not allowed > 0:
        return None
    low, high = max(fewest, 1), max(fewest, 1)
    while _smallest(high, asked, relative=relative) > allowed:
        low, high = high, 2 * high
        if high > _MOST_SAMPLES:
            return None
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        if _smallest(middle, asked, relative=relative) > allowed:
            low = middle
        else:
            high = middle
    return high
