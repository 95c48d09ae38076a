"""The accuracy budget and the goal of a search."""

import math
import re
from dataclasses import dataclass

from onnxopt.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """The largest accepted drop of the metric.

    Attributes:
        limit: the largest drop in the metric's own unit (0.01 is one point of accuracy), or a share of the baseline's
            score when `relative`.
        relative: whether `limit` is a share of the baseline's score.
        points: whether `limit` was given in percentage points, which only a bounded metric has.
    """

    limit: float
    relative: bool = False
    points: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `1pp` (percentage points), `1%` (of the baseline), or `0.01` (the metric's unit).

        Raises:
            UsageError: ONX101 the text has another form, or is negative.
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
        return cls(number / 100 if unit else number, relative=unit == "%", points=unit == "pp")

    @classmethod
    def of(cls, given: str | float | None, metric: str, *, bounded: bool) -> "Budget":
        """Return the budget for one metric: the given one, else 1pp, or 1% if the metric has no points.

        Raises:
            UsageError: ONX101 the budget cannot be read, or does not fit the metric.
        """
        if given is None:
            return cls(0.01, relative=not bounded, points=bounded)
        budget = cls.parse(str(given))
        number = f"{100 * budget.limit:.6g}" if budget.points else f"{budget.limit:.6g}"
        if budget.points and not bounded:
            why, hint = (
                f"{metric} is not a share: it has no points",
                f"Write {number}%, or a number in the metric's unit.",
            )
        elif bounded and not budget.relative and not budget.points and budget.limit >= 1:
            why, hint = f"without a unit it means {100 * budget.limit:g} points", f"Write {number}pp or {number}%."
        elif bounded and (budget.relative or budget.points) and budget.limit >= 1:
            why, hint = "every model is within it", f"Write less than {'100%' if budget.relative else '100pp'}."
        else:
            return budget
        raise UsageError("ONX101", "the accuracy budget does not fit the metric", where=str(given), why=why, hint=hint)

    def allowed(self, baseline_score: float) -> float:
        """Return the largest accepted drop in the metric's unit."""
        return self.limit * abs(baseline_score) if self.relative else self.limit

    def __str__(self) -> str:
        if self.relative or self.points:
            return f"{100 * self.limit:.10g}{'%' if self.relative else 'pp'}"
        return f"{self.limit:.10g}"
