import gc
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_models import FakeClock, built, linear
from onnx import TensorProto, helper

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure import emulation, latency
from onnxopt.measure.latency import BLOCK_NS, measure_latency, race
from onnxopt.measure.session import Runtime
from onnxopt.model_file import to_bytes

FEEDS = {"x": np.ones((4, 3), np.float32)}
RUNTIME = Runtime()
MS = 1_000_000


def raced(clock, durations, *, budget_ns=200 * MS, min_rounds=3, warmup=2, seed=0):
    runs = [clock.run(name, ns) for name, ns in durations.items()]
    rng = np.random.default_rng(seed)
    return race(runs, budget_ns=budget_ns, min_rounds=min_rounds, warmup=warmup, rng=rng, clock=clock)


def test_every_round_times_every_model_for_a_block():
    rounds = raced(FakeClock(), {"fast": 0.1 * MS, "slow": 1.5 * MS})
    assert len(rounds) > 3
    for fast, slow in rounds:
        assert fast.tolist() == [0.1 * MS] * 20
        assert slow.tolist() == [1.5 * MS] * 2


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 50), st.floats(0.01, 50))
def test_blocks_are_long_enough_and_runs_exact(fast_ms, slow_ms):
    for times in raced(FakeClock(), {"a": int(fast_ms * MS), "b": int(slow_ms * MS)}, budget_ns=10 * MS):
        assert all(block.sum() >= BLOCK_NS for block in times)
        assert set(times[0]) == {int(fast_ms * MS)}


def test_rounds_go_on_until_the_time_is_used_or_the_fewest_are_done():
    clock = FakeClock()
    raced(clock, {"a": MS}, budget_ns=500 * MS)
    assert 500 * MS < clock.now_ns < 520 * MS
    assert len(raced(FakeClock(), {"a": 1000 * MS}, budget_ns=MS, min_rounds=5)) == 5


def test_the_order_of_models_changes_and_follows_the_seed():
    def order(seed):
        clock = FakeClock()
        raced(clock, {"a": 5 * MS, "b": 5 * MS}, seed=seed)
        calls = clock.calls[4:]
        return [calls[i] for i in range(0, len(calls), 2)]

    assert {"a", "b"} == set(order(0)[::2])
    assert order(1) == order(1)
    assert order(1) != order(2)


def test_only_quick_models_start_a_block_with_an_untimed_run():
    clock = FakeClock()
    raced(clock, {"quick": 5 * MS}, min_rounds=4, budget_ns=1)
    assert len(clock.calls) == 2 + 4 * 2
    clock = FakeClock()
    raced(clock, {"slow": 500 * MS}, min_rounds=4, budget_ns=1)
    assert len(clock.calls) == 1 + 4


def test_garbage_is_not_collected_while_timing_and_is_afterwards():
    clock = FakeClock()
    seen = []
    race(
        [clock.run("a", lambda c: seen.append(gc.isenabled()) or MS)],
        budget_ns=1,
        min_rounds=2,
        warmup=1,
        rng=np.random.default_rng(0),
        clock=clock,
    )
    assert seen[0]  # warming up
    assert not any(seen[1:])
    assert gc.isenabled()


def test_a_disturbance_shared_by_a_round_does_not_touch_the_ratio(monkeypatch):
    def measured(noise_ms):
        clock = FakeClock()
        rng = np.random.default_rng(0)

        class FakeSession:
            load_ms = 7.0

            def __init__(self, model, runtime):
                self.base_ms = model

            def run(self, feeds):
                clock.now_ns += 3 * self.base_ms * MS

            def bound(self, feeds):
                def work():
                    # Slow spells last 50 ms, far longer than a round.
                    spell = np.sin(clock.now_ns / (50 * MS)) > 0.5
                    clock.now_ns += int(self.base_ms * MS * (1 + noise_ms * spell) * rng.uniform(1, 1.01))

                return work

        monkeypatch.setattr(latency, "Session", FakeSession)
        return measure_latency({"base": 4, "new": 2}, FEEDS, RUNTIME, seconds=4, clock=clock, emulation=lambda: None)

    for noise in (0, 3):
        result = measured(noise)
        assert result["base"].speedup is None
        speedup = result["new"].speedup
        assert speedup.value == pytest.approx(2, rel=0.02)
        assert speedup.excludes(1.0)
        assert result["new"].load_ms == 7
        assert result["new"].first_run_ms == 6
        assert result["new"].batch_size == 4
    assert result["new"].p99_ms > 3 * result["new"].p50_ms or result["new"].p90_ms > result["new"].p50_ms


def test_real_models_are_measured():
    progress = []
    model = linear(np.eye(3))
    result = measure_latency(
        {"base": model, "same": to_bytes(model)},
        FEEDS,
        RUNTIME,
        seconds=0.2,
        epochs=3,
        emulation=lambda: None,
        progress=lambda *a: progress.append(a),
    )
    assert list(result) == ["base", "same"]
    for figures in result.values():
        assert 0 < figures.p50_ms <= figures.p90_ms <= figures.p99_ms
        assert figures.n > 16
        assert figures.load_ms > 0
        assert figures.first_run_ms > 0
        assert figures.peak_memory_bytes is None
        assert figures.batch_size == 4
    assert result["same"].speedup.low < result["same"].speedup.high
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_idle_threads_of_other_models_do_not_spin(monkeypatch):
    seen = []
    real = latency.Session
    monkeypatch.setattr(latency, "Session", lambda model, runtime: seen.append(runtime) or real(model, runtime))
    for threads in (1, 2):
        measure_latency(
            {"m": linear(np.eye(3))}, FEEDS, Runtime(threads=threads), seconds=0.01, epochs=2, emulation=lambda: None
        )
    assert [dict(r.options) for r in seen] == [{}, {}, *[{"session.force_spinning_stop": "1"}] * 2]


def test_errors_are_named():
    with pytest.raises(NativeError, match="ONX401"):
        measure_latency({"m": linear(np.eye(4))}, FEEDS, RUNTIME, seconds=0.01, emulation=lambda: None)
    with pytest.raises(ModelError, match="ONX304"):
        measure_latency({"m": b"no model"}, FEEDS, RUNTIME, seconds=0.01, emulation=lambda: None)
    with pytest.raises(ValueError, match="no models"):
        measure_latency({}, FEEDS, RUNTIME, emulation=lambda: None)


def test_an_emulated_processor_is_refused():
    with pytest.raises(NativeError, match=r"ONX403.*run by qemu-aarch64"):
        measure_latency({"m": b""}, FEEDS, RUNTIME, emulation=lambda: "the process is run by qemu-aarch64")


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
        measure_latency({"a": _only_at_batch_one()}, FEEDS, RUNTIME, seconds=0.01)
    assert "--batch-size 1" in caught.value.hint
    one = {"x": FEEDS["x"][:1]}
    assert measure_latency({"a": _only_at_batch_one()}, one, RUNTIME, seconds=0.01)["a"].batch_size == 1


def test_a_model_that_fails_at_any_batch_size_says_why():
    with pytest.raises(NativeError, match="ONNX Runtime failed"):
        measure_latency({"a": linear(np.ones((5, 2)))}, FEEDS, RUNTIME, seconds=0.01)
