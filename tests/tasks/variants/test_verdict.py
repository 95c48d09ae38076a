"""The verdict follows from agreement beyond chance, the variance explained and the budget, at their limits."""

import math

import numpy as np
import pytest

from onnxopt.measure.accuracy import Evaluation, drop, evaluation_of
from onnxopt.measure.chance import Chance
from onnxopt.measure.statistics import Drop
from onnxopt.measure.tasks.table.classification import Agreement
from onnxopt.tasks.variants.verdict import Standing, needs_variance, verdict

LEVEL = Chance(0.2, {"y": 1.0})


def scored(right: int, of: int = 100, non_finite: int = 0) -> tuple[Evaluation, Drop]:
    """Return the agreement of `right` classes, and its drop from full agreement."""
    # NaN for the class of the baseline: no class can be lost.
    rows = [np.column_stack((np.arange(of) < count, np.full(of, np.nan))).astype(float) for count in (of, right)]
    metric = Agreement("y")
    before, after = evaluation_of(metric, rows[0], 0), evaluation_of(metric, rows[1], non_finite)
    return after, drop(before, after)


@pytest.mark.parametrize(
    ("right", "explained", "standing"),
    [
        (100, math.nan, Standing.GOOD),
        (99, math.nan, Standing.GOOD),
        (98, math.nan, Standing.OVER),
        (41, math.nan, Standing.OVER),  # 0.26 of the way from chance to full agreement
        (39, 0.1, Standing.BROKEN),
        (39, 0.9, Standing.OVER),  # most of the outputs are there: it is no chance
        (39, math.nan, Standing.BROKEN),
        (20, -1.0, Standing.BROKEN),
        (0, -3.0, Standing.BROKEN),
    ],
)
def test_answers_near_chance_are_broken_and_those_that_lose_more_are_not(
    right: int, explained: float, standing: Standing
) -> None:
    score, lost = scored(right)
    found, reason = verdict(score, lost, LEVEL, explained, 0.01)
    assert found is standing
    assert bool(reason) == (standing is not Standing.GOOD)


def test_new_infinities_are_broken_whatever_the_agreement_is() -> None:
    score, lost = scored(100, non_finite=3)
    assert verdict(score, lost, LEVEL, 1.0, 0.01) == (Standing.BROKEN, "NaN or infinite values for 3 of 100 samples")


@pytest.mark.parametrize(
    ("right", "explained", "standing"),
    [
        (100, 0.9, Standing.GOOD),
        (100, 0.5, Standing.UNSURE),
        (100, math.nan, Standing.UNSURE),
        (90, 0.9, Standing.UNSURE),
    ],
)
def test_where_all_answers_are_alike_the_variance_decides(right: int, explained: float, standing: Standing) -> None:
    score, lost = scored(right)
    assert verdict(score, lost, Chance(1.0, {}), explained, 0.01)[0] is standing


def test_outputs_are_run_again_only_where_the_agreement_is_doubtful() -> None:
    doubtful = {right: needs_variance(scored(right)[0], LEVEL) for right in (100, 41, 39, 0)}
    assert doubtful == {100: False, 41: False, 39: True, 0: True}
    assert needs_variance(scored(100)[0], Chance(math.nan, {}))
