import subprocess
from pathlib import Path

import numpy as np
import pytest
from measure_models import built, linear
from onnx import TensorProto, helper

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.latency import measure, measure_latency
from onnxopt.measure.runtime import emulation
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import memory, to_bytes
from onnxopt.options.runtime import FullRuntime

FEEDS = {"x": np.ones((4, 3), np.float32)}
RUNTIME = Runtime()


def test_real_models_are_measured():
    progress = []
    model = linear(np.eye(3))
    result = measure_latency(
        {"base": model, "same": to_bytes(model)},
        [FEEDS],
        RUNTIME,
        seconds=0.2,
        epochs=3,
        lengthen=False,
        emulation=lambda: None,
        progress=lambda *a: progress.append(a),
    )
    assert list(result) == ["base", "same"]
    for figures in result.values():
        assert figures.p50_ms > 0
        assert 0 < figures.quantiles_ms[0] <= figures.p90_ms
        assert figures.n > 16
        assert figures.load_ms > 0
        assert figures.first_run_ms > 0
        assert figures.peak_memory_bytes is None
        assert figures.batch_size == 4
    assert (result["same"].speedup is None) == bool(result["same"].unsure)
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_freed_memory_returns_to_the_system_before_each_load(monkeypatch):
    order = []
    monkeypatch.setattr(measure, "trim_heap", lambda: order.append("trim"))
    load = measure.Session
    monkeypatch.setattr(measure, "Session", lambda *given: order.append("load") or load(*given))
    models = {name: linear(np.eye(3)) for name in ("base", "same")}
    measure_latency(models, [FEEDS], RUNTIME, seconds=0.01, epochs=2, lengthen=False, emulation=lambda: None)
    assert order == ["trim", "load"] * 4


def test_a_large_model_is_written_once_as_the_file_that_ships(monkeypatch):
    monkeypatch.setattr(memory, "IN_MEMORY_BYTES", 8)
    opened, real = [], measure.Session
    model = linear(np.eye(3))

    def watched(source, runtime):
        opened.append((source, Path(source).read_bytes()))
        return real(source, runtime)

    monkeypatch.setattr(measure, "Session", watched)
    measure_latency(
        {"m": model}, [FEEDS], RUNTIME, seconds=0.01, epochs=3, lengthen=False, emulation=lambda: None, memory=True
    )
    assert len(opened) == 3
    assert {content for _, content in opened} == {to_bytes(model)}
    assert len({source for source, _ in opened}) == 1
    assert not Path(opened[0][0]).exists()


def test_idle_threads_of_other_models_do_not_spin(monkeypatch):
    seen = []
    real = measure.Session
    monkeypatch.setattr(measure, "Session", lambda model, runtime: seen.append(runtime) or real(model, runtime))
    for threads in (1, 2):
        measure_latency(
            {"m": linear(np.eye(3))},
            [FEEDS],
            Runtime(threads=threads),
            seconds=0.01,
            epochs=2,
            lengthen=False,
            emulation=lambda: None,
        )
    assert [dict(r.options) for r in seen] == [{}, {}, *[{"session.force_spinning_stop": "1"}] * 2]


def test_each_model_can_have_its_own_configuration(monkeypatch):
    seen = []
    real = measure.Session
    monkeypatch.setattr(measure, "Session", lambda model, runtime: seen.append(runtime) or real(model, runtime))
    model = to_bytes(linear(np.eye(3)))
    runtimes = {"one": FullRuntime(arena=False), "side by side": FullRuntime(inter_threads=2)}
    found = measure_latency(
        dict.fromkeys(runtimes, model), [FEEDS], runtimes, seconds=0.01, epochs=2, emulation=lambda: None
    )
    assert list(found) == list(runtimes)
    assert sorted((r.arena, r.inter_threads, dict(r.options)) for r in seen[:2]) == [
        (False, 1, {}),
        (True, 2, {"session.force_spinning_stop": "1"}),
    ]


def test_errors_are_named():
    with pytest.raises(NativeError, match="ONX401"):
        measure_latency({"m": linear(np.eye(4))}, [FEEDS], RUNTIME, seconds=0.01, emulation=lambda: None)
    with pytest.raises(ModelError, match="ONX304"):
        measure_latency({"m": b"no model"}, [FEEDS], RUNTIME, seconds=0.01, emulation=lambda: None)
    with pytest.raises(ValueError, match="no models"):
        measure_latency({}, [FEEDS], RUNTIME, emulation=lambda: None)
    with pytest.raises(ValueError, match="no inputs"):
        measure_latency({"m": b""}, [], RUNTIME, emulation=lambda: None)


def test_an_emulated_processor_is_refused():
    with pytest.raises(NativeError, match=r"ONX403.*run by qemu-aarch64"):
        measure_latency({"m": b""}, [FEEDS], RUNTIME, emulation=lambda: "the process is run by qemu-aarch64")


INTEL = "vendor_id\t: GenuineIntel"
ARM = "CPU implementer\t: 0x41"


@pytest.mark.parametrize(
    ("machine", "executable", "modalias", "cpuinfo", "found"),
    [
        ("x86_64", "/usr/bin/python3.11", "cpu:type:x86,ven0000", INTEL, None),
        ("aarch64", "/usr/bin/python3.11", "", ARM, None),
        ("aarch64", "/usr/bin/python3.11", "cpu:type:aarch64:feature:,0000", ARM, None),
        ("aarch64", "/usr/bin/qemu-aarch64-static", "", ARM, "qemu-aarch64-static"),
        ("aarch64", "", "cpu:type:x86,ven0000", ARM, "host's processor x86"),
        ("armv7l", "", "", INTEL, "cpuinfo says x86"),
        ("x86_64", "/usr/bin/box64", "", "", "box64"),
        ("riscv64", "", "cpu:type:x86,ven0002", "", "riscv"),
        ("AMD64", "", "", "", None),
        ("s390x", "", "", "", None),
    ],
)
def test_what_gives_an_emulator_away(machine, executable, modalias, cpuinfo, found):
    why = emulation.evidence(machine, executable, modalias, cpuinfo)
    assert why is None if found is None else found in why


def test_rosetta_is_found(monkeypatch):
    monkeypatch.setattr(emulation.platform, "system", lambda: "Darwin")
    answer = subprocess.CompletedProcess([], 0, "1\n", "")
    monkeypatch.setattr(emulation.subprocess, "run", lambda *a, **k: answer)
    assert "Rosetta" in emulation.emulator()
    answer.stdout = "0\n"
    assert emulation.emulator() is None


def _only_at_batch_one():
    """A dynamic batch in the signature, and a Reshape inside that only fits one sample."""
    return built(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        {"shape": np.array([1, 3], np.int64)},
    )


def test_a_model_that_only_runs_single_samples_says_so():
    with pytest.raises(NativeError, match="cannot be run at batch size 4") as caught:
        measure_latency({"a": _only_at_batch_one()}, [FEEDS], RUNTIME, seconds=0.01)
    assert "--batch-size 1" in caught.value.hint
    one = {"x": FEEDS["x"][:1]}
    assert measure_latency({"a": _only_at_batch_one()}, [one], RUNTIME, seconds=0.01)["a"].batch_size == 1


def test_a_model_that_fails_at_any_batch_size_says_why():
    with pytest.raises(NativeError, match="ONNX Runtime failed"):
        measure_latency({"a": linear(np.ones((5, 2)))}, [FEEDS], RUNTIME, seconds=0.01)
