"""A candidate is given up on while it is scored, as soon as it cannot be inside the budget."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from onnxopt.measure.accuracy import Evaluation

RISK = 0.01
"""Probability, over all looks together, of giving up on a candidate whose true drop is inside the budget. It costs a
candidate, never a proof: that asks the hold-out part."""

FIRST = 32
"""Samples before the first look; each further look is at twice as many, up to half of all."""


class Race:
    """Looks at right-or-wrong scores while they come, as Hoeffding races do (Maron and Moore, 1994), but exactly.

    The share of samples that got worse has a lower bound and the share that got better an upper one (Clopper and
    Pearson), each at half of a look's risk; where the two are further apart than the budget, more samples do not help.

    Args:
        baseline: on all samples, in the order in which candidates are scored.
        allowed: drop, as a share of the samples.
    """

    def __init__(self, baseline: Evaluation, allowed: float) -> None:
        self._right, self._allowed = baseline.rows[:, 0] > 0, allowed
        self._never_better = baseline.metric.relative  # candidates are compared with the baseline itself
        self._looks = [n for n in (FIRST << i for i in range(32)) if 2 * n <= len(self._right)]
        self._risk = RISK / max(len(self._looks), 1)

    def __call__(self, rows: Sequence[np.ndarray], done: int) -> bool:
        """Return whether to give up after `done` samples, whose rows came in parts."""
        if not self._looks or done < self._looks[0]:
            return False
        self._looks = [n for n in self._looks if n > done]
        right = np.concatenate(rows)[:, 0] > 0
        return self.least_drop(right) > self._allowed

    def least_drop(self, right: np.ndarray) -> float:
        """Return the smallest drop that the first samples leave possible at a look's risk; `right` has one each."""
        count, before = len(right), self._right[: len(right)]
        worse, better = int(np.sum(before & ~right)), int(np.sum(right & ~before))
        least_worse = stats.beta.ppf(self._risk / 2, worse, count - worse + 1) if worse else 0.0
        most_better = stats.beta.ppf(1 - self._risk / 2, better + 1, count - better) if better < count else 1.0
        return float(least_worse - (0.0 if self._never_better else most_better))


def race_of(baseline: Evaluation, allowed: float) -> Race | None:
    """Return a race where the score counts what is right, on enough samples; else None: all are scored in full."""
    rows = baseline.rows
    counts = baseline.metric.binary and rows.dtype != object and bool(np.all((rows[:, 0] == 0) | (rows[:, 0] == 1)))
    return Race(baseline, allowed) if counts and len(rows) >= 2 * FIRST else None
