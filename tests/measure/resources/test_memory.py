import json
import subprocess

import numpy as np
from measure_models import linear

from onnxopt.measure.resources import memory, memory_probe
from onnxopt.measure.resources.memory import footprint_of
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import save

FEEDS = {"x": np.ones((4, 3), np.float32)}
RUNTIME = Runtime()


def test_memory_is_that_of_a_fresh_process(tmp_path):
    large = linear(np.random.default_rng(0).normal(size=(2000, 2000)))
    feeds = {"x": np.ones((1, 2000), np.float32)}
    (path,) = save(large, tmp_path / "large.onnx")
    small = footprint_of(linear(np.eye(3)), FEEDS, RUNTIME)
    large = footprint_of(path, feeds, RUNTIME)
    assert large.peak_bytes > 16e6 > small.peak_bytes  # the weights alone are 16 MB
    if large.private_bytes is not None:  # not on macOS and Windows
        assert large.private_bytes > 16e6 > small.private_bytes
        assert large.mapped_bytes < large.peak_bytes
    assert 0 < small.start_ms < small.cold_start_ms
    assert 0 < small.start_own_ms < small.cold_start_ms


def test_a_footprint_never_fails_a_measurement(monkeypatch):
    assert footprint_of(b"no model", FEEDS, RUNTIME) is None

    def late(*args, **kwargs):
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(memory.subprocess, "run", late)
    assert footprint_of(b"", FEEDS, RUNTIME) is None


def test_the_probe_says_nothing_where_memory_is_unknown(tmp_path, monkeypatch, capsys):
    (path,) = save(linear(np.eye(3)), tmp_path / "model.onnx")
    np.savez(tmp_path / "feeds.npz", *FEEDS.values())
    task = {"model": str(path), "names": ["x"], "threads": 1, "level": "ORT_ENABLE_ALL", "options": [["a", "b"]]}
    task |= {"provider": "CPUExecutionProvider", "inter_threads": 2, "arena": False, "memory_pattern": False}
    (tmp_path / "task.json").write_text(json.dumps(task))
    monkeypatch.setattr(memory_probe, "start_bytes", lambda: None)
    memory_probe.main(tmp_path)
    assert json.loads(capsys.readouterr().out)["peak"] is None


def test_memory_that_no_file_backs_is_reported_as_such(tmp_path):
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text("5-7 ---p 00000000 00:00 0 [rollup]\nRss: 1000 kB\nAnonymous: 600 kB\nSwap: 50 kB\n")
    assert memory_probe.resident(str(rollup)) == (650 * 1024, 400 * 1024)
    assert memory_probe.resident(str(tmp_path / "none")) == (None, None)


def test_without_proc_the_process_peak_is_used(monkeypatch):
    def missing(key):
        raise OSError(key)

    monkeypatch.setattr(memory_probe, "_status_bytes", missing)
    assert memory_probe.start_bytes() > 1e6
    monkeypatch.setattr(memory_probe.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    assert memory_probe.start_bytes() is None
