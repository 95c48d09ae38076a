"""What a finalist must reach, how sure that is, and who is tried on the hold-out part."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.classification import TopK
from onnxopt.measure.metrics.score import percent
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.options.search import Goal
from onnxopt.search.acceptance import EARLY, LIKELY, Acceptance
from onnxopt.search.trial import Candidate, Proof, Trial, Verdict

BAR = Acceptance(Goal.LATENCY, 0.01, 0.95, 100, "share")


def drop(value: float) -> Drop:
    return Drop(value, Interval(value, value, value), 100, None, None, None, False, np.full(9, value))


def speed(low: float, value: float, high: float) -> Interval:
    return Interval(low, value, high)


def trial(name: str, value: float, speedup: float) -> Trial:
    fast = Interval(speedup, speedup, speedup)
    latency = Latency(1, 1, 1, 1, 1, 1, fast, None, 1, Interval(1, 1, 1))
    return Trial(Candidate(name, ()), Verdict.WITHIN, "", size_bytes=50, drop=drop(value), latency=latency)


def names(trials: list[Trial]) -> list[str]:
    return [t.candidate.name for t in trials]


def test_faster_means_that_the_whole_interval_is_faster() -> None:
    """A candidate of 1.2x +- 0.3 is not faster beyond doubt."""
    assert BAR.verdict(drop(0), speed(0.95, 1.02, 1.08), 50)[0] is Verdict.SLOWER
    assert BAR.verdict(drop(0), speed(1.0, 1.2, 1.4), 50)[0] is not Verdict.WITHIN
    assert BAR.verdict(drop(0), speed(1.01, 1.2, 1.4), 50)[0] is Verdict.WITHIN


def test_for_size_slower_means_that_the_whole_interval_is_slower() -> None:
    size = replace(BAR, goal=Goal.SIZE)
    assert size.verdict(drop(0), speed(0.9, 0.95, 1.0), 50)[0] is Verdict.WITHIN
    assert size.verdict(drop(0), speed(0.9, 0.95, 0.99), 50)[0] is Verdict.SLOWER


@given(st.floats(0.5, 0.999))
def test_an_early_proof_and_the_finalists_together_take_no_more_than_the_accepted_risk(confidence: float) -> None:
    bar = replace(BAR, confidence=confidence)
    assert bar.asked() == pytest.approx(confidence)
    assert 1 - bar.asked(EARLY) + 1 - bar.asked(1 - EARLY) == pytest.approx(1 - confidence)
    assert bar.asked(EARLY) > bar.asked(1 - EARLY) > confidence
    assert bar.asked(0.0) == 1


@pytest.mark.parametrize(
    ("confidence", "require", "standing"),
    [(0.951, "likely", "proven"), (0.949, "likely", "likely"), (LIKELY, "likely", "likely"), (0.69, "likely", ""),
     (0.951, "proven", "proven"), (0.949, "proven", "")],
)  # fmt: skip
def test_a_finalist_is_proven_likely_or_neither(confidence: float, require: str, standing: str) -> None:
    assert replace(BAR, require=require).standing(confidence, 1.0, None) == standing


def test_gains_that_make_up_for_losses_prove_nothing() -> None:
    """Half of the texts changed, and a few more of them became right than wrong."""
    even = replace(drop(-0.1), better=25, worse=20, gross=0.2)
    assert BAR.standing(0.99, 1.0, even) == "likely"
    assert replace(BAR, require="proven").standing(0.99, 1.0, even) == ""
    assert BAR.standing(0.99, 1.0, replace(even, gross=0.01)) == "proven"
    fast = Latency(1, 1, 1, 1, 1, 1, speed(2, 2, 2), None, 1, Interval(1, 1, 1))
    score = Evaluation(TopK(), np.ones((100, 1)), 1.0, Interval(1, 1, 1), 100, 0)
    why = BAR.why_unproven(Proof("x", score, score, even, 0.99, BAR.asked(), fast, fast, False))
    assert "25 got better and 20 got worse; the loss without the gains is 20.00 points (budget 1.00 points)" in why


def test_a_smaller_share_of_the_risk_needs_more_to_be_proven() -> None:
    assert BAR.standing(0.98, 1.0, None) == "proven"
    assert BAR.standing(0.98, EARLY, None) == "likely"


def test_without_a_share_of_the_risk_nothing_is_proven() -> None:
    """Not even the most that a million samples can show, by the rule of succession."""
    assert BAR.standing(1_000_001 / 1_000_002, 0.0, None) == "likely"


def test_how_many_samples_would_be_a_proof_is_said() -> None:
    wide = replace(drop(0.005), draws=np.random.default_rng(0).normal(0.005, 0.004, 10_000))
    latency = trial("a", 0.005, 2.0).latency
    assert latency is not None
    score = Evaluation(TopK(1), np.zeros((100, 1)), 0.9, speed(0.8, 0.9, 0.95), 100, 0)
    proof = Proof("a", score, score, wide, 0.89, 0.98, latency, latency, False)
    needed = wide.samples_needed(0.01, 0.98)
    assert needed is not None
    assert 100 < needed < 1000
    assert f"about {needed} such samples with the same drop would be enough" in BAR.why_unproven(proof)
    assert "within 1.00 points: 89.0 %, required: 98.0 %" in BAR.why_unproven(proof)


def test_a_probability_just_below_its_limit_is_not_written_like_it() -> None:
    assert (percent(0.98749), percent(0.9875, limit=True)) == ("98.7 %", "98.8 %")
    assert (percent(0.95), percent(0.95, limit=True)) == ("95.0 %", "95.0 %")
    assert percent(1.0) == "99.9 %"


@pytest.mark.parametrize(("goal", "size_bytes", "larger"), [("latency", 100, False), ("latency", 101, True),
                                                            ("size", 99, False), ("size", 100, True)])  # fmt: skip
def test_a_winner_is_not_larger_and_for_size_a_percent_smaller(goal: str, size_bytes: int, larger: bool) -> None:
    verdict, _ = replace(BAR, goal=Goal(goal)).verdict(drop(0), speed(2, 2, 2), size_bytes)
    assert (verdict is Verdict.LARGER) is larger


def test_nan_is_within_no_budget() -> None:
    assert BAR.verdict(replace(drop(0), broken=True), speed(2, 2, 2), 50)[0] is Verdict.OVER_BUDGET


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.0, 1.1, Verdict.UNSURE), (1.0, 1.09, Verdict.SLOWER), (1.01, 1.1, Verdict.WITHIN), (0.5, 2, Verdict.UNSURE)],
)
def test_an_interval_from_one_to_a_tenth_more_decides_nothing(low: float, high: float, verdict: Verdict) -> None:
    assert BAR.verdict(drop(0), speed(low, 1.05, high), 50)[0] is verdict


def test_for_size_a_wide_interval_is_no_doubt() -> None:
    assert replace(BAR, goal=Goal.SIZE).verdict(drop(0), speed(0.5, 1, 2), 50)[0] is Verdict.WITHIN


def test_without_a_speed_up_a_candidate_within_budget_is_unsure() -> None:
    assert BAR.verdict(drop(0), None, 50, "a busy host") == (Verdict.UNSURE, "a busy host")
    assert BAR.verdict(drop(0.02), None, 50, "a busy host")[0] is Verdict.OVER_BUDGET


def test_the_gain_is_that_of_the_goal() -> None:
    assert BAR.gain(trial("a", 0, 2.0)) == 0.5
    assert replace(BAR, goal=Goal.SIZE).gain(replace(trial("a", 0, 2.0), size_bytes=25)) == 0.75


def test_the_required_confidence_itself_is_enough() -> None:
    assert BAR.standing(BAR.asked(), 1.0, None) == "proven"
    sure = replace(drop(0), n=1000)
    assert BAR.accurate(replace(trial("a", 0, 2), drop=sure))
    assert not BAR.accurate(replace(trial("a", 0, 2), drop=None))
    assert not BAR.accurate(replace(trial("a", 0.02, 2), drop=replace(sure, draws=np.full(9, 0.02))))
    for inside, promising in ((70, True), (69, False)):
        draws = np.array([0.0] * inside + [0.02] * (100 - inside))
        assert BAR.promising(replace(trial("a", 0, 2), drop=replace(sure, draws=draws))) is promising
    assert not BAR.promising(replace(trial("a", 0, 2), drop=None))
    for inside, accurate in ((95, True), (94, False)):
        draws = np.array([0.0] * inside + [0.02] * (100 - inside))
        assert BAR.accurate(replace(trial("a", 0, 2), drop=replace(sure, draws=draws))) is accurate
