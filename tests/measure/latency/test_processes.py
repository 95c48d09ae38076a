import numpy as np
import pytest
from measure_models import linear

from onnxopt.errors import NativeError
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
