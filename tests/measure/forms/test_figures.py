from pathlib import Path

import numpy as np
import pytest
from measure_models import linear

from onnxopt.measure.forms import figures
from onnxopt.measure.forms.deployment import Deployment
from onnxopt.measure.forms.figures import ROUNDS, MachineClock, in_turn
from onnxopt.measure.latency.processes import ProcessLoad
from onnxopt.measure.resources.memory import Footprint
from onnxopt.model_file import save
from onnxopt.options.runtime import FullRuntime

FEEDS = {"x": np.ones((1, 3), np.float32)}
FIRST, OTHER = Deployment(Path("first"), FullRuntime()), Deployment(Path("other"), FullRuntime(arena=False))
BOTH = {"first": FIRST, "other": OTHER}


def clock():
    return MachineClock([FEEDS], 0.4, processes=3)


@pytest.fixture
def footprints(monkeypatch):
    """Footprints by file: start, processor time, private memory."""
    known = {"first": (30.0, 20.0, 800), "other": (10.0, 5.0, 200)}
    monkeypatch.setattr(figures, "refuse_emulation", lambda: None)

    def footprint_of(model, feeds, runtime):
        start, own, private = known[str(model)]
        return None if start is None else Footprint(1, private, 1, 1.0, start, own)

    monkeypatch.setattr(figures, "footprint_of", footprint_of)
    return known


def test_each_variant_has_its_turn_and_ratios_are_within_a_turn():
    calls = []

    def once(deployment, beside):
        calls.append(deployment)
        drift = 1 + (len(calls) - 1) // 2  # the host slows down from turn to turn, for both alike
        return drift * (4.0 if deployment is FIRST else 2.0)

    found = in_turn(BOTH, once, better=lambda first, other: first / other, seed=0)
    assert [calls.count(v) for v in BOTH.values()] == [ROUNDS, ROUNDS]
    assert found["first"].ratio is None
    assert 1 < found["other"].ratio.low < found["other"].ratio.value < found["other"].ratio.high


def test_a_figure_that_is_not_reported_is_unsure(footprints):
    footprints["other"] = (None, None, None)
    assert "could not be measured" in clock()("memory", BOTH)["other"].unsure
    footprints["other"] = (10.0, 5.0, None)
    found = clock()("memory", BOTH)["other"]
    assert (found.ratio, bool(found.unsure)) == (None, True)


def test_figures_that_differ_wildly_are_unsure():
    values = iter([1.0, 9.0] * ROUNDS * 2)
    found = in_turn(BOTH, lambda v, b: next(values), better=lambda first, other: first / other, seed=1)
    assert found["other"].ratio is None
    assert "varied so much" in found["other"].unsure


def test_one_thread_is_timed_by_its_own_processor_time_and_several_by_the_time_of_day(footprints):
    assert clock()("cold-start", BOTH)["other"].ratio.value == pytest.approx(4)
    beside = BOTH | {"other": OTHER.with_threads(2)}
    assert clock()("cold-start", beside)["other"].ratio.value == pytest.approx(3)


def test_memory_is_the_private_one(footprints):
    found = clock()("memory", BOTH)
    assert (found["first"].value, found["other"].value) == (800, 200)
    assert found["other"].ratio.value == pytest.approx(4)


def test_throughput_is_that_of_several_processes_and_more_is_better(monkeypatch):
    seen = []

    def measure(models, feeds, runtimes, *, processes, seconds, rounds, seed):
        seen.append((list(models), processes, seconds, rounds))
        rates = {name: 100.0 if runtimes[name].arena else 150.0 for name in models}
        return {n: ProcessLoad(r, 1, None, None, 1, processes, 1, None, (r,) * rounds) for n, r in rates.items()}

    monkeypatch.setattr(figures, "refuse_emulation", lambda: None)
    monkeypatch.setattr(figures, "measure_processes", measure)
    assert clock()("throughput", BOTH)["other"].ratio.value == pytest.approx(1.5)
    assert seen == [(list(BOTH), 3, 0.4, ROUNDS)]


def test_latency_is_measured_with_the_settings_of_each(tmp_path):
    (path,) = save(linear(np.eye(3)), tmp_path / "m.onnx")
    found = clock()(
        "latency", {"first": Deployment(path, FullRuntime()), "other": Deployment(path, FullRuntime(arena=False))}
    )
    assert found["first"].value > 0
    assert found["first"].ratio is None
