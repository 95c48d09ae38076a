"""The time that proof and report need is kept."""

import math
from typing import Any

import pytest

from onnxopt.search.acceptance import MOST_PROOFS
from onnxopt.search.limits.reserve import FEWEST, Reserve, reserve_of

KEPT = Reserve(200, scoring_s=40.0, timing_s=7.0, brief_s=5.0, hot_s=5.0, report_s=2.0)


def reserve(**changes: Any) -> Reserve:
    asked = {
        "scored_s": 10.0,
        "searched": 100,
        "holdout": 200,
        "timed_s": 3.0,
        "latency_s": 1.0,
        "proof_latency_s": 3.0,
        "hot": False,
        "size_bytes": 0,
        "limit_s": 250.0,
    }
    return reserve_of(**(asked | changes))


def test_a_reserve_is_what_the_baseline_took_scaled_to_the_proof() -> None:
    kept = reserve()
    assert (kept.scoring_s, kept.timing_s, kept.brief_s, kept.hot_s) == (40.0, 7.0, 5.0, 5.0)
    assert reserve(hot=True).hot_s == 0
    assert reserve(size_bytes=10**9).report_s > kept.report_s


def test_times_with_one_input_take_no_time_from_a_short_search() -> None:
    assert (reserve(limit_s=249.0).hot_s, reserve(limit_s=249.0).brief_s) == (0.0, 5.0)


def test_a_proof_longer_than_half_the_time_takes_fewer_samples() -> None:
    kept = reserve()
    assert kept.samples(1e9) == 200
    assert FEWEST <= kept.samples(kept.kept_s(40.0)) < 200
    assert kept.samples(kept.least_s - 0.1) == 0
    assert kept.kept_s(200.0) == kept.needed_s
    assert kept.kept_s(0.0) > kept.least_s


def test_the_parts_of_a_reserve_add_up() -> None:
    assert KEPT.needed_s == 54.0
    assert KEPT.least_s == pytest.approx(7.0 + 2.0 + 40.0 * FEWEST / 200)
    assert Reserve(4, 40.0, 7.0, 5.0, 5.0, 2.0).least_s == 49.0, "all samples, where there are fewer than the fewest"
    assert Reserve(0, 40.0, 7.0, 5.0, 5.0, 2.0).least_s == 49.0


def test_a_reserve_is_all_that_is_needed_half_of_the_rest_or_the_smallest_proof() -> None:
    assert KEPT.kept_s(110.0) == 54.0
    assert KEPT.kept_s(100.0) == 50.0
    assert KEPT.kept_s(10.0) == pytest.approx(1.2 * 10.6)


@pytest.mark.parametrize(
    ("left_s", "further"), [(249.0, 0), (250.0, 1), (500.0, 2), (750.0, 3), (1e6, 3), (math.inf, 0)]
)
def test_where_proofs_are_short_beside_the_rest_further_finalists_have_time(left_s: float, further: int) -> None:
    """One more takes 25 seconds: scoring of one model, and brief timing."""
    assert KEPT.kept_s(left_s) == KEPT.needed_s + further * 25.0


def test_while_nothing_is_to_be_proved_the_smallest_proof_is_reserved() -> None:
    assert KEPT.at_first_s == pytest.approx(1.2 * 10.6)
    assert Reserve(8, scoring_s=4.0, timing_s=7.0, brief_s=5.0, hot_s=0.0, report_s=2.0).at_first_s == 13.0


@pytest.mark.parametrize(("left_s", "count"), [(49.0, 200), (48.0, 195), (10.61, 8), (10.59, 0), (9.0, 0), (0.0, 0)])
def test_samples_are_those_that_can_be_scored_beside_timing_and_report(left_s: float, count: int) -> None:
    assert KEPT.samples(left_s) == count


@pytest.mark.parametrize(("left_s", "share", "fits"), [(29.0, 1.0, True), (28.9, 1.0, False), (19.0, 0.5, True)])
def test_one_more_finalist_takes_half_of_the_scoring_of_two_models(left_s: float, share: float, fits: bool) -> None:
    assert KEPT.another_fits(left_s, share) is fits


def test_loading_is_counted_for_both_models_and_never_below_zero() -> None:
    assert reserve(timed_s=0.5).timing_s == 3.0
    assert reserve(timed_s=2.0).timing_s == 5.0
    assert reserve(searched=0).scoring_s == 2 * 10.0 * 200
    assert reserve(size_bytes=10**9).report_s == 12.0


def test_less_than_a_second_is_enough_for_samples_that_are_scored_fast() -> None:
    assert Reserve(200, scoring_s=0.8, timing_s=7.0, brief_s=5.0, hot_s=5.0, report_s=2.0).samples(9.5) == 125


@pytest.mark.parametrize(("left_s", "share", "fits"), [(74.0, 1.0, True), (73.9, 1.0, False), (44.0, 0.5, True)])
def test_two_finalists_need_one_baseline_two_timings_and_one_report(left_s: float, share: float, fits: bool) -> None:
    assert KEPT.that_fit(left_s, share) == 1 + fits


@pytest.mark.parametrize(
    ("left_s", "fitting"), [(0.0, 1), (98.9, 2), (99.0, 3), (1e9, MOST_PROOFS), (math.inf, MOST_PROOFS)]
)
def test_each_further_finalist_needs_half_of_the_scoring_and_its_timing(left_s: float, fitting: int) -> None:
    assert KEPT.that_fit(left_s, 1.0) == fitting
    assert (
        Reserve(200, scoring_s=0.0, timing_s=0.0, brief_s=0.0, hot_s=0.0, report_s=2.0).that_fit(left_s, 1.0)
        == MOST_PROOFS
    )
