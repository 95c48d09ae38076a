"""Pruning to a latency: the share of the time is measured, also on a busy host."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.statistics import Interval
from onnxopt.pruning import latency_goal
from tests import builders


def measured(monkeypatch: pytest.MonkeyPatch, unsure: int) -> list[float]:
    """Let the clock be unsure that many times; return the list that gets the seconds of each measurement."""
    seconds_of = list[float]()

    def measure_latency(models, feeds, runtime, *, seconds, epochs):  # type: ignore[no-untyped-def]
        seconds_of.append(seconds)
        sure = len(seconds_of) > unsure
        speedup = Interval(1.9, 2.0, 2.1) if sure else None
        return {"after": SimpleNamespace(speedup=speedup, unsure="" if sure else "other programs took the processor")}

    monkeypatch.setattr(latency_goal, "measure_latency", measure_latency)
    return seconds_of


@pytest.mark.parametrize("unsure", [0, 1, 2])
def test_an_unsure_clock_measures_again_and_longer(monkeypatch: pytest.MonkeyPatch, unsure: int) -> None:
    seconds_of = measured(monkeypatch, unsure)
    model = builders.BUILDERS["gemm_mlp"]()
    assert latency_goal.median_time_share(model, model, {}) == 0.5
    assert seconds_of == sorted(set(seconds_of))
    assert len(seconds_of) == unsure + 1


def test_a_host_that_stays_busy_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 99)
    model = builders.BUILDERS["gemm_mlp"]()
    with pytest.raises(NativeError, match="ONX409") as error:
        latency_goal.median_time_share(model, model, {})
    assert error.value.why == "other programs took the processor"


def planned(monkeypatch: pytest.MonkeyPatch, goal: float, time: Any, *, whole: float = 2.0) -> tuple[float, float, int]:
    """Return work and time of the plan for a goal, and the number of measurements; from `whole` on nothing is cut."""
    taken = list[float]()

    def plan(work: float) -> Any:
        return SimpleNamespace(kept={"group": work} if work < whole else {}, work=work)

    def timed(model: Any, smaller: float, feeds: Any) -> float:
        taken.append(smaller)
        return float(time(smaller))

    monkeypatch.setattr(latency_goal, "cut_channels", lambda channels, kept: kept["group"])
    choices, channels = cast(Any, SimpleNamespace(plan=plan)), cast(Any, SimpleNamespace(model=None))
    found, share = latency_goal.plan_for_latency(choices, channels, goal, {}, timed)
    return cast(Any, found).work, share, len(taken)


@pytest.mark.parametrize("goal", [0.3, 0.6, 0.9])
def test_the_most_work_that_reaches_the_goal_stays(monkeypatch: pytest.MonkeyPatch, goal: float) -> None:
    work, share, measured = planned(monkeypatch, goal, lambda work: work + 0.1)
    assert share == work + 0.1
    # Six halvings of the range from 0.05 to 1.
    assert goal - 0.1 - 0.95 / 2**6 < work <= goal - 0.1
    assert measured == 7


def test_a_time_that_equals_the_goal_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    work, share, _ = planned(monkeypatch, 0.5, lambda work: 0.5)
    assert work > 0.98
    assert share == 0.5


def test_the_least_work_is_the_plan_where_it_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(monkeypatch, 0.1, lambda work: work + 0.1) == (0.05, 0.05 + 0.1, 1)


def test_a_plan_that_removes_nothing_takes_the_whole_time_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    work, share, measured = planned(monkeypatch, 0.9, lambda work: work, whole=0.5)
    assert (share, measured) == (work, 5)
    assert 0.48 < work < 0.5
    work, share, _ = planned(monkeypatch, 1.0, lambda work: work, whole=0.5)
    assert work > 0.98
    assert share == 1.0
