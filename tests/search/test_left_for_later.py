"""Candidates that differ from a tried one in little wait where they would not decide anything, and take long."""

from types import SimpleNamespace

import numpy as np
import pytest

from onnxopt.catalog import parse
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.options.search import Goal
from onnxopt.search import optimize, stages
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.bets import TrialOrder
from onnxopt.search.optimize import search
from onnxopt.search.trial import Candidate, Trial, Verdict
from tests.search import fakes

BUDGET = 0.01


def trial(drop: float, passes: str = "quantize-static", built_s: float = 10.0) -> Trial:
    measured = Drop(drop, Interval(drop, drop, drop), 1000, None, None, None, False, np.full(100, drop))
    step = SimpleNamespace(duration_s=built_s)
    return Trial(Candidate("x", parse(passes)), Verdict.WITHIN, "", steps=(step,), drop=measured)


def later(
    *made: Trial, left_s: float = 100, limit_s: float | None = 200, sample_s: float = 0.0, latency_s: float = 0.0
) -> bool:
    trials = SimpleNamespace(
        made=list(made),
        bar=Acceptance(Goal.LATENCY, BUDGET, 0.95, 100),
        sample_s=sample_s,
        parts=SimpleNamespace(search=range(100)),
        settings=SimpleNamespace(latency_s=latency_s),
        deadline=SimpleNamespace(candidates_left_s=lambda: np.inf if limit_s is None else left_s - 10),
    )
    return stages.left_for_later(trials, alike=4)


@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_they_wait_where_one_is_inside_the_budget_or_all_are_far_beyond_it(drop: float) -> None:
    assert later(trial(drop))


def test_they_wait_where_one_of_several_is_inside_the_budget() -> None:
    assert later(trial(0.0), trial(0.02))


def test_they_do_not_wait_where_another_calibration_may_be_inside() -> None:
    assert not later(trial(0.02))
    assert not later(trial(0.2), trial(0.02))


def test_they_do_not_wait_before_a_static_candidate_was_tried() -> None:
    assert not later(trial(0.2, "quantize-dynamic"))


def test_they_do_not_wait_where_there_is_time_for_all() -> None:
    assert not later(trial(0.2), left_s=10_000)
    assert not later(trial(0.2), limit_s=None)


def test_the_slowest_build_so_far_tells_how_long_the_others_take() -> None:
    assert later(trial(0.0), trial(0.0, built_s=0.1))
    assert not later(trial(0.0, built_s=0.1), trial(0.0, built_s=0.1))


def test_scoring_and_timing_count_too() -> None:
    quick = trial(0.0, built_s=0.1)
    assert later(quick, sample_s=0.1)
    assert later(quick, latency_s=10.0)
    assert not later(quick, sample_s=0.001, latency_s=0.1)


def test_the_rest_wait_from_when_one_of_them_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """What removes channels comes before calibrations that cannot gain more than the one that is within budget."""
    tried = list[str]()
    fakes.install(monkeypatch, fakes.World({name: fakes.Figures(speedup=2) for name in "abcd"}))
    candidates = {c.name: c for c in optimize.first_candidates()}
    order = TrialOrder((candidates["a"],), tuple(candidates[name] for name in "bcd"), ())
    monkeypatch.setattr(optimize, "order_of", lambda *_: order)
    monkeypatch.setattr(stages, "try_one", lambda _, candidate, screen: tried.append(candidate.name))
    monkeypatch.setattr(stages, "left_for_later", lambda *_: "b" in tried)
    monkeypatch.setattr(stages, "place_layers", lambda _: tried.append("placed"))
    search(fakes.model(), fakes.parts())
    assert tried == ["a", "b", "placed", "c", "d"]
