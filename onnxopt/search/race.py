"""Early end of scoring for a candidate that cannot be within budget any more."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from onnxopt.measure.accuracy import Evaluation

RISK = 0.01
"""Probability, over all looks together, of stopping a candidate whose true drop is within budget. It can lose a
candidate, but never affects a proof, which uses hold-out samples.
"""

FIRST = 32
"""Samples before the first look; each further look is after twice as many, up to half of all."""


class Race:
    """Tests right-or-wrong scores during scoring, like Hoeffding races (Maron and Moore, 1994), but with exact bounds.

    The share of samples that got worse has a lower bound, and the share that got better an upper bound (Clopper and
    Pearson), each at half of a look's risk. Scoring stops if their difference exceeds the budget.

    Args:
        baseline: evaluation of the baseline on all samples, in the order of scoring.
        allowed: allowed drop, as a share of the samples.
    """

    def __init__(self, baseline: Evaluation, allowed: float) -> None:
        self._right, self._allowed = baseline.rows[:, 0] > 0, allowed
        self._never_better = baseline.metric.relative  # candidates are compared with the baseline itself
        self._looks = [n for n in (FIRST << i for i in range(32)) if 2 * n <= len(self._right)]
        self._risk = RISK / max(len(self._looks), 1)

    def __call__(self, rows: Sequence[np.ndarray], done: int) -> bool:
        """Return whether to stop after `done` samples, given their rows in parts."""
        if not self._looks or done < self._looks[0]:
            return False
        self._looks = [n for n in self._looks if n > done]
        right = np.concatenate(rows)[:, 0] > 0
        return self.least_drop(right) > self._allowed

    def least_drop(self, right: np.ndarray) -> float:
        """Return the smallest possible drop after the first samples, at a look's risk; `right` has one per sample."""
        count, before = len(right), self._right[: len(right)]
        worse, better = int(np.sum(before & ~right)), int(np.sum(right & ~before))
        least_worse = stats.beta.ppf(self._risk / 2, worse, count - worse + 1) if worse else 0.0
        most_better = stats.beta.ppf(1 - self._risk / 2, better + 1, count - better) if better < count else 1.0
        return float(least_worse - (0.0 if self._never_better else most_better))


def race_of(baseline: Evaluation, allowed: float) -> Race | None:
    """Return a race for right-or-wrong scores on enough samples; else None, and candidates are scored in full."""
    rows = baseline.rows
    counts = baseline.metric.binary and rows.dtype != object and bool(np.all((rows[:, 0] == 0) | (rows[:, 0] == 1)))
    return Race(baseline, allowed) if counts and len(rows) >= 2 * FIRST else None
