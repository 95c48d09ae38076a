"""Measurements for a proof: how long they are timed, and on how many hold-out samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxopt.errors import ModelError
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.options.search import Goal
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.baseline import PROOF_LATENCY
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.limits.reserve import Reserve
from onnxopt.search.proof.holdout import (
    Evidence,
    affordable_samples,
    drawn_samples,
    held_out,
    holdout_evidence,
    timed_as_last,
)
from tests.search import fakes
from tests.search.proofs import FASTER, timing, trial, trials

RESERVE = Reserve(20, scoring_s=8.0, timing_s=10.0, brief_s=8.0, hot_s=0.0, report_s=2.0)
BAR = Acceptance(Goal.LATENCY, allowed_drop=0.01, confidence=0.9, baseline_bytes=1000)


def evidence(confidence: float = 0.99, latency: Any = None, size: int = 900) -> Any:
    """Return measurements whose drop is within the budget with this probability."""
    inside = round(1000 * confidence)
    draws = np.array([0.0] * inside + [1.0] * (1000 - inside))
    drop = Drop(0.0, Interval(0.0, 0.0, 0.0), 10_000, None, None, None, False, draws)
    nothing: Any = None
    one = replace(trial("a"), size_bytes=size)
    return Evidence(one, nothing, nothing, nothing, drop, "baseline, early", latency or timing(), 20)


class Clock:
    """Times models, and writes down for how long; the clock is unsure of the first few."""

    def __init__(self, unsure: int = 0, error: BaseException | None = None) -> None:
        self.seconds = list[float]()
        self._unsure, self._error = unsure, error

    def __call__(self, models: Any, seconds: float, **_: Any) -> Any:
        self.seconds.append(seconds)
        if self._error is not None:
            raise self._error
        now = timing(None, "busy") if len(self.seconds) <= self._unsure else timing()
        return dict.fromkeys(models, now)


@pytest.mark.parametrize(("confidence", "standing"), [(0.96, "proven"), (0.94, "likely"), (0.71, "likely"), (0.69, "")])
def test_only_what_is_proven_is_accepted_at_once(confidence: float, standing: str) -> None:
    found = evidence(confidence).proof(BAR, 0.5)
    assert (found.standing, found.accepted) == (standing, standing == "proven")
    assert found.asked == pytest.approx(0.95)


@pytest.mark.parametrize(
    "found", [evidence(latency=timing(Interval(0.9, 0.95, 1.0))), evidence(latency=timing(None)), evidence(size=1001)]
)
def test_a_finalist_outside_another_limit_is_not_even_likely(found: Evidence) -> None:
    assert (found.proof(BAR, 0).standing, found.proof(BAR, 0).accepted) == ("", False)


@pytest.mark.parametrize(("brief", "seconds"), [(True, 1.0), (False, PROOF_LATENCY)])
def test_a_brief_proof_is_timed_as_in_the_search(brief: bool, seconds: float) -> None:
    clock, judge = Clock(), fakes.FakeJudge(fakes.World({"baseline": fakes.Figures()}), "holdout")
    search = trials(latency=clock, again=lambda candidate: fakes.model())
    found = holdout_evidence(search, judge, trial("a"), 20, brief=brief)  # type: ignore[arg-type]
    assert (found.samples, found.brief) == (20, brief)
    assert clock.seconds == [seconds]


@pytest.mark.parametrize(("left_s", "again"), [(10.0, False), (10.1, True)])
def test_an_early_proof_is_timed_again_where_the_time_is_left(left_s: float, again: bool) -> None:
    clock, early = Clock(), evidence()
    found = timed_as_last(trials(latency=clock, reserve=RESERVE, left_s=lambda: left_s), early)
    assert clock.seconds == ([PROOF_LATENCY] if again else [])
    assert (found is early) is not again


def test_without_a_limit_an_early_proof_is_always_timed_again() -> None:
    clock = Clock()
    assert timed_as_last(trials(latency=clock), evidence()).latency.speedup == FASTER
    assert clock.seconds == [PROOF_LATENCY]


def test_a_timing_that_fails_or_is_cut_leaves_the_early_one() -> None:
    early = evidence()
    assert timed_as_last(trials(latency=Clock(error=ModelError("ONX304", "gone"))), early) is early

    @contextmanager
    def cut() -> Iterator[None]:
        raise TimeOver
        yield

    search = trials(latency=Clock())
    search.deadline.ending = cut
    assert timed_as_last(search, early) is early


@pytest.mark.parametrize(("then_s", "times"), [(10.0, 1), (10.1, 2)])
def test_an_unsure_clock_measures_once_more_where_the_time_is_left(then_s: float, times: int) -> None:
    clock, left = Clock(unsure=1), iter([11.0, then_s])
    found = timed_as_last(trials(latency=clock, reserve=RESERVE, left_s=lambda: next(left)), evidence())
    assert clock.seconds == [PROOF_LATENCY] * times
    assert found.latency.unsure == ("busy" if times == 1 else "")


@pytest.mark.parametrize(("unsure", "times"), [(0, 1), (1, 2), (9, 2)])
def test_without_a_limit_an_unsure_clock_measures_once_more_and_not_again(unsure: int, times: int) -> None:
    clock = Clock(unsure=unsure)
    timed_as_last(trials(latency=clock), evidence())
    assert clock.seconds == [PROOF_LATENCY] * times


def test_without_a_limit_all_hold_out_samples_are_used() -> None:
    search = trials()
    assert held_out(search) is search.parts.holdout
    assert affordable_samples(search, trial("a")) is search.parts.holdout


@pytest.mark.parametrize(("left_s", "count"), [(20.0, 20), (19.0, 17), (15.3, 8), (15.0, None)])
def test_the_hold_out_samples_are_as_many_as_fit_the_time(left_s: float, count: int | None) -> None:
    """Scoring 20 takes 8 s beside 12 s of timing and report: 2.5 in a second, and 8 are the fewest."""
    samples = fakes.parts().holdout
    search = trials(holdout=samples, reserve=RESERVE, left_s=lambda: left_s)
    found = held_out(search)
    assert (None if found is None else len(found)) == count
    fewer = count is not None and count < 20
    assert search.late.fewer == (f"; the time limit left {count} of the 20 hold-out samples" if fewer else "")


def test_too_little_time_affords_no_early_proof() -> None:
    search = trials(holdout=fakes.parts().holdout, reserve=RESERVE, left_s=lambda: 5.0)
    assert affordable_samples(search, trial("a")) is None


def test_fewer_samples_are_drawn_at_random_and_stay_in_order() -> None:
    samples = fakes.parts().holdout
    search = trials(holdout=samples)
    some = drawn_samples(search, 9)
    assert len(some) == 9
    assert set(some.indices) < set(samples.indices)
    assert list(some.indices) == sorted(some.indices)
    assert list(some.indices) == list(drawn_samples(search, 9).indices)
    assert list(some.indices) != sorted(samples.indices)[:9]
    assert drawn_samples(search, 20) is samples
    assert drawn_samples(search, 21) is samples
