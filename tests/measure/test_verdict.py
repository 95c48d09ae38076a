"""A changed graph is kept only where its outputs are proved and its time was measured."""

from types import SimpleNamespace

import pytest

from onnxopt.errors import NativeError
from onnxopt.measure import verdict
from onnxopt.measure.statistics import Interval
from onnxopt.measure.verdict import PROVED, prove, time_share, time_shares
from onnxopt.model_file import probe_feeds, signature_of
from tests import builders


@pytest.fixture
def model():
    return builders.BUILDERS["gemm_mlp"]()


def feeds_of(model):
    return probe_feeds(signature_of(model), dynamic=1)


def test_an_equal_model_is_proved_and_another_is_not(model, monkeypatch):
    assert prove(model, model.clone(), feeds_of(model)) == (0.0, "")
    for found, kept in ((PROVED, True), (1.01 * PROVED, False), (float("nan"), False), (float("inf"), False)):
        monkeypatch.setattr(verdict, "largest_difference", lambda *_, found=found: found)
        assert (prove(model, model, feeds_of(model))[1] == "") is kept


def test_a_model_that_runs_on_nothing_proves_nothing(model):
    fed = {name: array[:, :1] for name, array in feeds_of(model).items()}
    model.graph[0].op_type = "NoSuchOperator"
    assert prove(model, model, fed) == (0.0, "the model runs on no generated input, so equality cannot be proved")


def test_a_result_that_does_not_run_is_not_kept(model):
    broken = model.clone()
    broken.graph[0].op_type = "NoSuchOperator"
    assert prove(model, broken, feeds_of(model))[1].startswith("not kept: ")


@pytest.mark.parametrize(("why", "said"), [("", "not kept: it failed"), ("of that", "not kept: of that")])
def test_the_reason_of_a_failure_is_given(model, monkeypatch, why, said):
    def fails(*_):
        raise NativeError("ONX401", "it failed", why=why)

    monkeypatch.setattr(verdict, "largest_difference", fails)
    assert prove(model, model, feeds_of(model)) == (0.0, said)


def timed(**speedups):
    return lambda models, *_, **__: {
        name: SimpleNamespace(
            speedup=None if (value := speedups.get(name, 1.0)) is None else Interval(value, value, value),
            unsure="busy" if value is None else "",
        )
        for name in models
    }


def test_the_time_is_a_share_of_the_original(model, monkeypatch):
    monkeypatch.setattr(verdict, "measure_latency", timed(a=2.0, b=0.5))
    assert time_shares(model, {"a": model, "b": model}, {}) == ({"a": 0.5, "b": 2.0}, "")


def test_a_time_that_the_clock_is_unsure_of_is_missing_with_the_reason(model, monkeypatch):
    monkeypatch.setattr(verdict, "measure_latency", timed(a=2.0, b=None))
    assert time_shares(model, {"a": model, "b": model}, {}) == ({"a": 0.5}, "not verified to be faster: busy")
    assert time_share(model, model, {}) == (1.0, "")


def test_a_measurement_that_fails_gives_no_time(model, monkeypatch):
    def fails(*_, **__):
        raise NativeError("ONX403", "latency is not measured", why="emulated")

    monkeypatch.setattr(verdict, "measure_latency", fails)
    assert time_shares(model, {"a": model}, {}) == ({}, "not verified to be faster: emulated")
    assert time_share(model, model, {}) == (None, "not verified to be faster: emulated")
