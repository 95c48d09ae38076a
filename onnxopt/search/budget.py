"""How much may be lost, and what is to be gained."""

import math
import re
from dataclasses import dataclass
from enum import Enum

from onnxopt.errors import UsageError


class Goal(Enum):
    """What the best model is best at."""

    LATENCY = "latency"
    SIZE = "size"


@dataclass(frozen=True)
class Budget:
    """The largest accepted drop of the metric.

    Attributes:
        limit: in the metric's own unit (0.01 is one point of accuracy), or a share of the baseline when `relative`.
        relative: whether `limit` is a share of the baseline's score.
    """

    limit: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `1pp` (percentage points), `1%` (of the baseline), or `0.01` (the metric's unit).

        Raises:
            UsageError: ONX101 it is none of these, or negative.
        """
        match = re.fullmatch(r"\s*(\d*\.?\d+(?:[eE]-?\d+)?)\s*(pp|%)?\s*", text)
        number = float(match[1]) if match else math.inf
        if match is None or not math.isfinite(number):
            raise UsageError(
                "ONX101",
                "the accuracy budget cannot be read",
                where=text,
                hint="Write 1pp (percentage points), 1% (of the baseline's score) or 0.01 (in the metric's unit).",
            )
        unit = match[2]
        return cls(number / 100 if unit else number, relative=unit == "%")

    def allowed(self, baseline_score: float) -> float:
        """Return the largest accepted drop in the metric's unit."""
        return self.limit * abs(baseline_score) if self.relative else self.limit

    def __str__(self) -> str:
        return f"{self.limit:.4g}" if not self.relative else f"{100 * self.limit:.4g}%"
