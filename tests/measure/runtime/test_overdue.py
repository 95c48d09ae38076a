import time

import numpy as np
import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.runtime import overdue
from onnxopt.measure.runtime.interrupt import TimeOver, cut_when, interruptible
from onnxopt.measure.runtime.session import Runtime, Session
from tests.hostile.model_faults import mlp
from tests.hostile.test_kinds import endless_loop

FEEDS = {"x": np.ones((2, 4), np.float32)}


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(overdue, "RUN_LIMIT_S", 0.2)
    monkeypatch.setattr(overdue, "_POLL_S", 0.02)
    monkeypatch.setattr(overdue, "_WATCH", overdue._Watch())


def endless() -> Session:
    return Session(endless_loop().SerializeToString(), Runtime())


def quick() -> Session:
    return Session(mlp().SerializeToString(), Runtime())


@pytest.mark.parametrize("call", [lambda work: work(), interruptible])
def test_a_run_without_end_is_stopped_and_the_next_one_starts(call):
    def work():
        with pytest.raises(NativeError, match=r"ONX410: .* does not end: it was stopped after 0\.2 s"):
            endless().run(FEEDS)
        return quick().run(FEEDS)

    (found,) = call(work)
    assert found.shape == (2, 3)


def test_a_time_limit_that_is_over_first_is_no_error_of_the_model():
    since = time.monotonic()
    with pytest.raises(TimeOver), cut_when(lambda: time.monotonic() > since + 0.05):
        endless().run(FEEDS)


def test_another_error_of_a_run_stays_as_it_is():
    with pytest.raises(NativeError, match="ONX401"):
        quick().run({"x": np.ones((2, 5), np.float32)})


def test_the_watching_thread_ends_when_nothing_runs(monkeypatch):
    monkeypatch.setattr(overdue, "_IDLE_POLLS", 2)
    quick().run(FEEDS)
    end = time.monotonic() + 10
    while overdue._WATCH._thread.is_alive() and time.monotonic() < end:
        time.sleep(0.02)
    assert not overdue._WATCH._thread.is_alive()
    quick().run(FEEDS)
    assert overdue._WATCH._thread.is_alive()
