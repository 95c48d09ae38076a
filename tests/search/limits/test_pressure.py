"""A baseline is scored only where the time may be enough."""

from typing import Any

import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.measure.runtime.session import Runtime
from onnxopt.search.limits import pressure
from tests.search import fakes
from tests.search.limits.clock import Moved, deadline


class Slow:
    """A session of which each run takes so many seconds of a clock."""

    def __init__(self, clock: Moved, seconds: float, error: Exception | None = None) -> None:
        self.clock, self.seconds, self.error = clock, seconds, error

    def __call__(self, *_: Any) -> "Slow":
        return self

    def run(self, feeds: Any) -> None:
        if self.error is not None:
            raise self.error
        self.clock.now += self.seconds


@pytest.mark.parametrize(("run_s", "hopeless"), [(9.2, False), (10.4, True)])
def test_a_baseline_that_would_take_twice_the_time_left_is_refused_after_two_runs(
    monkeypatch: pytest.MonkeyPatch, run_s: float, hopeless: bool
) -> None:
    """20 samples: 184 s beside 2 * 102 s left are tried, 208 s beside 2 * 99 s are not; the first run warms up."""
    found, clock = deadline(120)
    samples = fakes.parts().holdout.with_batch_size(2)
    monkeypatch.setattr(pressure, "Session", Slow(clock, run_s))
    if hopeless:
        with pytest.raises(NativeError, match="ONX408"):
            pressure.refuse_hopeless(fakes.model(), samples, Runtime(), found)
    else:
        pressure.refuse_hopeless(fakes.model(), samples, Runtime(), found)
    assert clock.now == 2 * run_s


def test_a_baseline_that_does_not_run_is_no_question_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = deadline(120)
    monkeypatch.setattr(pressure, "Session", Slow(clock, 1e9, NativeError("ONX401", "it cannot be run")))
    pressure.refuse_hopeless(fakes.model(), fakes.parts().search, Runtime(), found)


@pytest.mark.parametrize(
    ("limit_s", "timeout_s", "now_s", "code"),
    [
        (100, None, 101, "ONX408"),
        (None, 20, 21, "ONX406"),
        (100, 20, 21, "ONX406"),
        (100, 20, 101, "ONX408"),
    ],
)
def test_a_baseline_is_cut_at_the_limit_of_the_search_or_of_a_trial(
    limit_s: float | None, timeout_s: float | None, now_s: float, code: str
) -> None:
    found, clock = deadline(limit_s)

    def work() -> None:
        clock.now = now_s
        raise_if_interrupted()

    with pytest.raises(NativeError, match=code), pressure.baseline_in_time(found, timeout_s):
        work()
