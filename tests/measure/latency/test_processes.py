import subprocess

import numpy as np
import pytest
from measure_models import linear

from onnxopt.errors import NativeError
from onnxopt.measure.latency import side_by_side
from onnxopt.measure.latency.processes import measure_processes
from onnxopt.measure.resources.energy import joules, packages
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import to_bytes

FEEDS = {"x": np.ones((4, 3), np.float32)}


def meters():
    """Count two joules between two readings."""
    counted = iter(range(0, 10**9, 2_000_000))
    return lambda: {"intel-rapl:0": (next(counted), 10**12)}


def test_processes_run_at_once_and_their_energy_is_shared_among_runs():
    model, done = to_bytes(linear(np.eye(3))), []
    found = measure_processes(
        {"a": model}, FEEDS, Runtime(), processes=2, seconds=0.1, batch_size=4, meter=meters(),
        progress=lambda *p: done.append(p), emulation=lambda: None,
    )["a"]  # fmt: skip
    assert found.processes == 2
    assert found.runs > 2
    assert found.p50_ms > 0
    assert found.joules > 0
    assert done == [(1, 2), (2, 2)]


def test_a_process_that_cannot_run_the_model_is_named():
    with pytest.raises(NativeError, match="ONX401"):
        measure_processes({"a": b"none"}, FEEDS, Runtime(), processes=1, seconds=0.1, emulation=lambda: None)


def test_processes_are_started_once_per_turn_and_serve_every_model(monkeypatch):
    started = []
    popen = subprocess.Popen

    def counted(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", counted)
    models = {name: to_bytes(linear(scale * np.eye(3))) for name, scale in (("a", 1), ("b", 2), ("c", 3))}
    runtimes = {name: Runtime(threads=1) for name in models}
    found = measure_processes(
        models, FEEDS, runtimes, processes=2, seconds=0.1, batch_size=4, rounds=3, emulation=lambda: None
    )
    assert [len(found[name].rates) for name in models] == [3, 3, 3]
    assert len(started) == 2 * 3
    assert all(process.returncode is not None for process in started)


def test_a_process_that_does_not_answer_is_ended(monkeypatch):
    monkeypatch.setattr(side_by_side, "PATIENCE_S", 0.0)
    with pytest.raises(NativeError, match="the process ended"):
        measure_processes({"a": to_bytes(linear(np.eye(3)))}, FEEDS, Runtime(), processes=1, seconds=0.0)


def test_energy_is_read_from_packages_alone(tmp_path):
    assert packages(tmp_path) is None
    for name, counted in {"intel-rapl:0": 5, "intel-rapl:0:0": 3, "intel-rapl:1": 7}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{counted}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("99\n")
    assert packages(tmp_path) == {"intel-rapl:0": (5, 99), "intel-rapl:1": (7, 99)}


def test_a_counter_that_began_anew_goes_on():
    before, after = {"p": (90, 99)}, {"p": (10, 99)}
    assert joules(before, after) == pytest.approx(20e-6)
    assert joules(None, after) is None
