"""The smallest drop that the hold-out samples can prove, computed before a search."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.metrics.score import Score, drop_in_words, percent
from onnxopt.measure.statistics import LOSS_UNSEEN, RARE_UNSEEN, flip_draws

_MOST_SAMPLES = 1 << 24


@dataclass(frozen=True)
class Prospect:
    """The best case of a proof: a candidate that loses nothing on the hold-out part.

    Attributes:
        holdout: number of hold-out samples.
        allowed: the budget, in the metric's unit.
        asked: required probability of the first finalist.
        unit: unit of the metric.
        smallest: smallest budget that such a candidate proves; None if the metric does not determine it beforehand.
        needed: number of hold-out samples that would prove the budget; None if unknown.
    """

    holdout: int
    allowed: float
    asked: float
    unit: str
    smallest: float | None
    needed: int | None

    @property
    def possible(self) -> bool:
        """Return whether any candidate can be proven within budget."""
        if self.smallest is not None:
            return self.smallest <= self.allowed
        return self.needed is None or self.holdout >= self.needed

    def sentence(self) -> str:
        """Return the prospect in one line."""
        asked = percent(self.asked, limit=True)
        if self.smallest is None:
            if self.possible:
                return f"{self.holdout} hold-out samples; a proof requires a probability of {asked}."
            return f"{self.holdout} hold-out samples prove nothing at {asked}; {self.needed} are needed."
        smallest = drop_in_words(self.smallest, self.unit)
        said = f"{self.holdout} hold-out samples prove nothing at {asked}"
        if self.smallest < 1:
            said = f"{self.holdout} hold-out samples can prove a budget of {smallest} or more at {asked}"
        if self.possible:
            return f"{said}; the budget is {drop_in_words(self.allowed, self.unit)}."
        needed = "no number of samples is enough" if self.needed is None else f"about {self.needed} are needed"
        return f"{said}; for the budget of {drop_in_words(self.allowed, self.unit)}, {needed}."


def prospect_of(metric: Score, holdout: int, allowed: float, asked: float, telling: float = 1.0) -> Prospect:
    """Return the prospect of a proof with `holdout` samples, of which a share is `telling`.

    Right-or-wrong metrics are exact, by the posterior of the proof itself, and so is the loss by samples not seen; for
    others only the number of samples below which no probability reaches `asked` is known beforehand (Laplace's rule of
    succession).
    """
    fewest, telling = int(np.ceil((2 * asked - 1) / (1 - asked))), max(telling, 1e-6)
    if not metric.binary and metric.most_lost is None:
        return Prospect(holdout, allowed, asked, metric.unit, None, max(fewest, 1))
    relative, scale = metric.relative or not metric.binary, metric.most_lost or 1.0
    count, unseen = max(int(telling * holdout), 1), 0.0 if metric.binary else RARE_UNSEEN
    smallest = scale * max(_smallest(count, asked, relative=relative), unseen / count)
    needed = _needed(allowed / scale, asked, max(fewest, int(unseen * scale / max(allowed, 1e-9))), relative)
    needed = None if needed is None else int(np.ceil(needed / telling))
    return Prospect(holdout, allowed, asked, metric.unit, smallest, needed)


def prospect_on(baseline: Evaluation, holdout: int, allowed: float, asked: float) -> Prospect:
    """Return the prospect where as large a share of the hold-out samples is telling as of those of `baseline`."""
    telling = baseline.metric.telling(baseline.rows) / max(len(baseline.rows), 1)
    return prospect_of(baseline.metric, holdout, allowed, asked, telling)


def _smallest(count: int, asked: float, *, relative: bool) -> float:
    """Return the smallest budget that `count` samples without a single flip prove."""
    if (count + 1) / (count + 2) < asked:
        return 1.0
    if relative:
        return float(stats.beta.ppf(asked, LOSS_UNSEEN, count))
    return float(np.quantile(flip_draws(0, 0, count, seed=0), asked))


def _needed(allowed: float, asked: float, fewest: int, relative: bool) -> int | None:
    """Return the fewest samples that prove the budget; None where no number is enough."""
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
