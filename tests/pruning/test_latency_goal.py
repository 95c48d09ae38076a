"""Pruning to a latency: the share of the time is measured, also on a busy host."""

from types import SimpleNamespace

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
    assert latency_goal.time_share(model, model, {}) == 0.5
    assert seconds_of == sorted(set(seconds_of))
    assert len(seconds_of) == unsure + 1


def test_a_host_that_stays_busy_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 99)
    model = builders.BUILDERS["gemm_mlp"]()
    with pytest.raises(NativeError, match="ONX409") as error:
        latency_goal.time_share(model, model, {})
    assert error.value.why == "other programs took the processor"
