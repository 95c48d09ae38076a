"""The state of a training between two looks: the best weights so far, and the rate with which it goes on."""

from dataclasses import dataclass
from typing import Any

AWAY = 1.5
"""A held-out score that is worse than at the start by this factor means that the rate is too high."""

LOWER = 1 / 3
"""Factor of the learning rate after such a score."""

MOST_LOWERED = 4
"""Times the rate is lowered: to about a hundredth of the asked one."""


@dataclass
class Course:
    """Where a training stands.

    A model that was reduced with care starts close to its teacher. The usual learning rate then destroys more in the
    first steps than all others repair, and it may be far too high for deep models whose batch norms are folded. So, as
    long as nothing was learned, a score far above that of the start puts the weights back and lowers the rate.

    Attributes:
        before: the held-out score of the initial weights, lower is better.
        kept: the best weights.
        best: their score.
        step: steps done.
        stale: looks without a better score.
        begun: the step at which the present rate began.
        lowered: times the rate was lowered.
    """

    before: float
    kept: dict[str, Any]
    best: float
    step: int = 0
    stale: int = 0
    begun: int = 0
    lowered: int = 0

    @property
    def factor(self) -> float:
        """The share of the asked learning rate."""
        return LOWER**self.lowered

    def leads_away(self, score: float) -> bool:
        """Return whether the rate is to be lowered after this score; NaN counts as far off."""
        return self.best == self.before and self.lowered < MOST_LOWERED and not score <= AWAY * self.before

    def lower(self) -> None:
        """Begin again from the best weights, which the caller puts back, with a lower rate and the steps left."""
        self.begun, self.stale, self.lowered = self.step, 0, self.lowered + 1

    def learn(self, score: float, weights: dict[str, Any] | None) -> None:
        """Take note of a score, with the weights if it is the best one."""
        if weights is None:
            self.stale += 1
        else:
            self.best, self.kept, self.stale = score, weights, 0
