"""Before a search: what so many samples can prove is what the proof itself would accept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.measure.metrics.classification import TopK
from onnxopt.measure.statistics import flip_draws, probability_within, share_draws
from onnxopt.measure.tasks.named import metric_of
from onnxopt.search.proof.prospect import prospect_of

ASKED = 0.975


class Agreement(TopK):
    """A share that the baseline has in full."""

    relative = True

    def __init__(self) -> None:
        super().__init__(1)


def test_thirty_two_samples_prove_no_point_and_that_is_known_beforehand() -> None:
    found = prospect_of(metric_of("top1"), 32, 0.01, ASKED)
    assert not found.possible
    assert found.needed is not None
    assert found.smallest is not None
    assert found.smallest > 0.05
    assert found.sentence().startswith("32 hold-out samples prove nothing at 97.5 %; for the budget")
    assert "about 367 are needed" in found.sentence()


@settings(max_examples=20)
@given(st.integers(60, 5000), st.booleans())
def test_a_candidate_without_a_flip_is_proved_at_the_smallest_drop_and_not_below(count: int, relative: bool) -> None:
    metric = Agreement() if relative else metric_of("top1")
    found = prospect_of(metric, count, 0.01, ASKED)
    assert found.smallest is not None
    draws = share_draws(0, count, seed=1) if relative else flip_draws(0, 0, count, seed=1)
    assert probability_within(1.1 * found.smallest, draws, count) >= ASKED
    assert probability_within(0.9 * found.smallest, draws, count) < ASKED


@pytest.mark.parametrize("allowed", [0.005, 0.01, 0.05])
def test_the_number_that_is_needed_is_enough_and_hardly_more(allowed: float) -> None:
    needed = prospect_of(metric_of("top1"), 32, allowed, ASKED).needed
    assert needed is not None
    assert prospect_of(metric_of("top1"), int(1.02 * needed), allowed, ASKED).possible
    smallest = prospect_of(metric_of("top1"), int(0.95 * needed), allowed, ASKED).smallest
    assert smallest is not None
    assert smallest > allowed


def test_that_nothing_at_all_is_lost_cannot_be_proved() -> None:
    found = prospect_of(metric_of("top1"), 1000, 0.0, ASKED)
    assert found.needed is None
    assert not found.possible
    assert "no number of samples is enough" in found.sentence()


def test_of_other_metrics_only_the_fewest_samples_are_known() -> None:
    assert prospect_of(metric_of("rmse"), 20, 0.1, ASKED).needed == 38
    assert not prospect_of(metric_of("rmse"), 20, 0.1, ASKED).possible
    assert prospect_of(metric_of("rmse"), 38, 0.1, ASKED).possible


@pytest.mark.parametrize("telling", [1.0, 0.25])
def test_images_with_boxes_count_as_right_or_wrong_answers_do(telling: float) -> None:
    found = prospect_of(metric_of("ap"), 400, 0.01, ASKED, telling)
    counted = int(telling * 400)
    zero = np.zeros(1000)
    assert found.smallest is not None
    assert probability_within(found.smallest + 1e-9, zero, counted, 1.0) >= ASKED
    assert probability_within(0.98 * found.smallest, zero, counted, 1.0) < ASKED
    assert found.needed == pytest.approx(prospect_of(Agreement(), 400, 0.01, ASKED).needed / telling, rel=0.02)  # type: ignore[operator]


def test_two_images_more_than_were_seen_are_lost_also_at_a_low_confidence() -> None:
    found = prospect_of(metric_of("ap"), 400, 0.01, 0.8)
    assert found.smallest == pytest.approx(2 / 400)
    assert found.needed == 200
