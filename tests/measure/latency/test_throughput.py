import time

import numpy as np
import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.latency.throughput import _load, measure_throughput
from onnxopt.measure.runtime.session import Runtime
from tests.conftest import MODELS


def test_streams_run_at_the_same_time():
    taken, elapsed_s = _load(lambda: time.sleep(0.02), 4, 0.2)
    assert sum(taken) > 4 * 0.02 * 3
    assert sum(taken) > 2 * elapsed_s
    assert min(taken) >= 0.019


def test_a_failure_in_a_stream_is_reported():
    calls = []

    def run() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        _load(run, 2, 5.0)


def test_models_are_measured_under_load():
    model = MODELS / "digits_mlp.onnx"
    feeds = {"X": np.zeros((4, 64), np.float32)}
    done = []
    found = measure_throughput(
        {"a": model, "b": model}, feeds, Runtime(), streams=2, seconds=0.3, progress=lambda *p: done.append(p)
    )
    assert found["a"].speedup is None
    assert found["b"].speedup.low <= found["b"].speedup.value <= found["b"].speedup.high
    assert found["a"].samples_per_s > 0
    assert found["a"].batch_size == 4
    assert found["a"].p50_ms <= found["a"].p99_ms
    assert done[-1] == (6, 6)


def test_emulation_is_refused():
    with pytest.raises(NativeError, match="ONX403"):
        measure_throughput({}, {}, Runtime(), emulation=lambda: "QEMU")
