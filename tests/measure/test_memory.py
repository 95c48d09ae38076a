import json
import subprocess

import numpy as np
from measure_models import linear

from onnxopt.measure import memory, memory_probe
from onnxopt.measure.memory import peak_memory_bytes
from onnxopt.measure.session import Runtime
from onnxopt.model_file import save

FEEDS = {"x": np.ones((4, 3), np.float32)}
RUNTIME = Runtime()


def test_peak_memory_is_that_of_a_fresh_process(tmp_path):
    large = linear(np.random.default_rng(0).normal(size=(2000, 2000)))
    feeds = {"x": np.ones((1, 2000), np.float32)}
    (path,) = save(large, tmp_path / "large.onnx")
    small = peak_memory_bytes(linear(np.eye(3)), FEEDS, RUNTIME)
    peak = peak_memory_bytes(path, feeds, RUNTIME)
    assert small is not None
    assert peak is not None
    assert peak > 16e6 > small  # the weights alone are 16 MB


def test_peak_memory_never_fails_a_measurement(monkeypatch):
    assert peak_memory_bytes(b"no model", FEEDS, RUNTIME) is None

    def late(*args, **kwargs):
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(memory.subprocess, "run", late)
    assert peak_memory_bytes(b"", FEEDS, RUNTIME) is None


def test_the_probe_says_nothing_where_memory_cannot_be_told(tmp_path, monkeypatch, capsys):
    (path,) = save(linear(np.eye(3)), tmp_path / "model.onnx")
    np.savez(tmp_path / "feeds.npz", *FEEDS.values())
    task = {"model": str(path), "names": ["x"], "threads": 1, "level": "ORT_ENABLE_ALL", "options": [["a", "b"]]}
    (tmp_path / "task.json").write_text(json.dumps({**task, "provider": "CPUExecutionProvider"}))
    monkeypatch.setattr(memory_probe, "start_bytes", lambda: None)
    memory_probe.main(tmp_path)
    assert json.loads(capsys.readouterr().out) is None


def test_without_proc_the_process_peak_is_used(monkeypatch):
    def missing(key):
        raise OSError(key)

    monkeypatch.setattr(memory_probe, "_status_bytes", missing)
    assert memory_probe.start_bytes() > 1e6
    monkeypatch.setattr(memory_probe.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    assert memory_probe.start_bytes() is None
