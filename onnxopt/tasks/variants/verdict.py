"""One file beside the file that it was made from: loaded, run, compared, and called good or broken with the reason."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from onnxopt.document import units
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.chance import Chance
from onnxopt.measure.statistics import Drop

NEAR_CHANCE = 0.25
"""Agreement beyond chance below which answers are called near chance, if they also explain less of the variance."""


class Standing(StrEnum):
    """The verdict on a file."""

    BASELINE = "baseline"
    GOOD = "good"
    OVER = "over budget"
    UNSURE = "unsure"
    BROKEN = "broken"


@dataclass(frozen=True)
class JudgedFile:
    """A model file beside the file that it was made from.

    Attributes:
        path: the path of the file.
        label: its type, as the convention calls it; empty for the baseline.
        loads: whether ONNX Runtime loads it.
        standing: the verdict.
        reason: the reason for the verdict; empty where the figures show it.
        size_bytes: the size in bytes of the file with its external data.
        ratio: size of the baseline over that of the file; None without a baseline.
        score: agreement with the baseline; None if it was not measured.
        drop: the drop of the agreement.
        metric: name of the comparison.
        unit: the unit of the comparison.
    """

    path: Path
    label: str
    loads: bool
    standing: Standing
    reason: str
    size_bytes: int
    ratio: float | None = None
    score: Evaluation | None = None
    drop: Drop | None = None
    metric: str = ""
    unit: str = ""

    @property
    def broken(self) -> bool:
        """Whether nobody can use it: it does not load or run, gives NaN, or answers as if by chance."""
        return self.standing is Standing.BROKEN


def verdict(score: Evaluation, drop: Drop, chance: Chance, explained: float, allowed: float) -> tuple[Standing, str]:
    """Return the verdict on a file that ran, with the reason.

    Args:
        score: agreement with the baseline.
        drop: the drop of the agreement.
        chance: the agreement of answers that have nothing to do with the inputs.
        explained: share of the baseline's variance in the file's outputs; NaN if it is unknown.
        allowed: the largest drop of a good file.
    """
    if drop.broken:
        return Standing.BROKEN, f"NaN or infinite values for {score.non_finite} of {units.many(score.n, 'sample')}"
    figure = score.metric.value(score.rows)
    skill = chance.skill(figure)
    if math.isnan(skill):
        return _without_skill(drop, explained, allowed)
    if skill < NEAR_CHANCE and not explained >= NEAR_CHANCE:
        answers, level = (units.score(max(share, 0.0), score.metric.unit) for share in (figure, chance.agreement))
        return Standing.BROKEN, f"answers near chance: {answers} agree, by chance {level}"
    return (Standing.GOOD, "") if drop.within(allowed) else (Standing.OVER, _lost(score, drop))


def needs_variance(score: Evaluation, chance: Chance) -> bool:
    """Return whether the agreement alone does not say that the answers are better than chance."""
    skill = chance.skill(score.metric.value(score.rows))
    return not skill >= NEAR_CHANCE


def _without_skill(drop: Drop, explained: float, allowed: float) -> tuple[Standing, str]:
    """Return the verdict where the baseline's answers hardly differ, so that equal answers prove little."""
    if explained >= 1 - NEAR_CHANCE and drop.within(allowed):
        return Standing.GOOD, ""
    return Standing.UNSURE, "the baseline answers all these inputs alike: give samples with --data"


def _lost(score: Evaluation, drop: Drop) -> str:
    unit = " points" if score.metric.unit == "share" else ""
    return f"loses {units.points(drop.value, score.metric.unit)}{unit}"
