"""Providers side by side, by those that a test says there are."""

import numpy as np
import pytest

import onnxopt
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.runtime import providers
from onnxopt.tasks import benchmark_runs
from onnxopt.tasks.bench_words import fastest_of
from tests import builders
from tests.repairs.quantized import clock

MODELS = {"a": builders.BUILDERS["gemm_mlp"](), "b": builders.BUILDERS["gemm_mlp"]()}


@pytest.fixture
def timed(monkeypatch):
    """Which entries were measured, with which provider."""
    seen = {}

    def measure(models, inputs, runtime, **_):
        seen.update({name: runtime[name].provider for name in models})
        return {name: clock(2.0)(None, None) for name in models}

    monkeypatch.setattr(benchmark_runs, "measure_latency", measure)
    return seen


class Loaded:
    """A session that only some providers can load."""

    def __init__(self, model, runtime):
        if runtime.provider == "xnnpack":
            raise ModelError("ONX304", "ONNX Runtime cannot load the model", why="no kernel")

    def run(self, feeds):
        return [np.zeros(1)]


def test_every_model_is_measured_on_every_provider(timed, monkeypatch):
    monkeypatch.setattr(benchmark_runs, "Session", Loaded)
    found = onnxopt.benchmark(MODELS, ep="cpu, openvino")
    assert timed == {"a on cpu": "cpu", "b on cpu": "cpu", "a on openvino": "openvino", "b on openvino": "openvino"}
    assert list(found.latency[1]) == list(timed)
    assert "The fastest on openvino is a: 1.00 ms." in found.document.data["notes"]


def test_auto_leaves_out_what_a_provider_cannot_run_and_says_so(timed, monkeypatch):
    monkeypatch.setattr(benchmark_runs, "Session", Loaded)
    monkeypatch.setattr(benchmark_runs, "offered", lambda: ("cpu", "xnnpack"))
    found = onnxopt.benchmark(MODELS, ep="auto")
    assert list(timed) == ["a on cpu", "b on cpu"]
    assert "b on xnnpack was left out: no kernel." in found.document.data["notes"]


def test_a_provider_that_was_named_must_run_the_model(timed, monkeypatch):
    with pytest.raises(UsageError, match=r"ONX106.*\[xnnpack\]"):
        onnxopt.benchmark(MODELS, ep=["cpu", "xnnpack"])
    monkeypatch.setattr(benchmark_runs, "Session", Loaded)
    with pytest.raises(ModelError, match="ONX304"):
        onnxopt.benchmark(MODELS, ep=["cpu", "xnnpack"])
    assert not timed


def test_the_installed_runtime_is_measured_really():
    found = onnxopt.benchmark(MODELS["a"], ep="auto", seconds=0.05)
    assert "model on cpu" in found.latency[1]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"profile": True}, "profile, ep"),
        ({"processes": 2}, "processes, ep"),
        ({"scenario": "offline"}, "scenario offline, ep"),
        ({"device": "ssh://board"}, "device, ep"),
        ({"runtime": onnxopt.Runtime("openvino")}, "ep, provider"),
    ],
)
def test_providers_side_by_side_exclude_other_measurements(options, where):
    with pytest.raises(UsageError, match=rf"ONX109.*\[{where}\]"):
        onnxopt.benchmark(MODELS, ep="auto", **options)


def test_the_processor_is_first_and_nothing_leaves_the_machine(monkeypatch):
    every = ["AzureExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider", "OwnExecutionProvider"]
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: every)
    assert providers.offered() == ("cpu", "openvino", "OwnExecutionProvider")


def test_an_unsure_time_is_not_the_fastest():
    times = {"a on cpu": clock(1.0, unsure="busy")(None, None), "b on cpu": clock(1.0)(None, None)}
    assert fastest_of(times, dict.fromkeys(times, "cpu"), {}) == ["The fastest on cpu is b: 1.00 ms."]
