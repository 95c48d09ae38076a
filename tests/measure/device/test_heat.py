"""A kit does not start on a hot device, and tells how many runs were throttled."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import DataError, NativeError
from onnxopt.measure.device import kit as kits
from onnxopt.measure.device.heat import Throttle, limit_of, temperatures, too_hot
from onnxopt.measure.device.place import place_of
from onnxopt.measure.device.result import read_result
from onnxopt.measure.latency.estimate import throttled_share
from onnxopt.measure.latency.rounds import race
from onnxopt.measure.latency.watch import Watch
from onnxopt.tasks.device import bundle, device_document, measure_on

MODEL = Path(__file__).parents[3] / "models" / "digits_mlp.onnx"


def written(system: Path, **texts: str) -> Path:
    """Write files below a made-up /sys; `__` in a name stands for a slash."""
    for name, text in texts.items():
        path = system / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return system


def zones(system: Path, *milli: str) -> Path:
    return written(system, **{f"class__thermal__thermal_zone{i}__temp": text for i, text in enumerate(milli)})


def test_temperatures_are_those_of_the_zones_with_a_number(tmp_path):
    assert temperatures(zones(tmp_path, "45123", "-1000", "", "n/a")) == [45.123, -1.0]
    assert temperatures(tmp_path / "none") == []


def test_the_hottest_zone_counts():
    assert too_hot(75, look=lambda: [40.0, 75.0]) == ""
    assert "76 °C, more than the limit of 75 °C" in too_hot(75, look=lambda: [76.0, 40.0])
    assert too_hot(75, look=list) == ""


def test_it_waits_for_the_device_to_cool_down_but_not_longer_than_stated():
    falling, waited = iter([[90.0], [80.0], [70.0]]), list[float]()
    assert too_hot(75, 60, look=lambda: next(falling), sleep=waited.append) == ""
    assert len(waited) == 2
    waited.clear()
    assert "90 °C" in too_hot(75, 12, look=lambda: [90.0], sleep=waited.append)
    assert sum(waited) == 15


@pytest.mark.parametrize("text", ["hot", "nan", "0", "-3", "inf"])
def test_what_is_no_limit(text):
    with pytest.raises(ValueError, match=r"temperature|convert"):
        limit_of(text)


def test_an_address_may_have_the_limit():
    assert place_of("ssh://board?max_celsius=82.5").max_celsius == 82.5
    assert place_of("local:///python?max_celsius=60&provider=cpu").max_celsius == 60
    assert place_of("ssh://board").max_celsius == 75


# Bits of `vcgencmd get_throttled`: 0 low voltage, 1 frequency capped, 2 throttled, 3 soft limit; 16 on: since boot.
@pytest.mark.parametrize(
    ("bits", "now"), [("0", False), ("50000", False), ("1", False), ("2", True), ("50005", True), ("8", True)]
)
def test_the_firmware_of_a_raspberry_pi(tmp_path, bits, now):
    system = written(tmp_path, **{"devices__platform__soc__soc:firmware__get_throttled": bits})
    assert Throttle(system).read() == (now, 0)


def test_a_cooling_device_of_the_processor(tmp_path):
    prefix = "class__thermal__cooling_device"
    states = {f"{prefix}0__type": "thermal-cpufreq-0", f"{prefix}0__cur_state": "0", f"{prefix}1__type": "pwm-fan"}
    system = written(tmp_path, **states, **{f"{prefix}1__cur_state": "3"})
    throttle = Throttle(system)
    assert throttle.read() == (False, 0)
    written(tmp_path, **{f"{prefix}0__cur_state": "2"})
    assert throttle.read() == (True, 0)


def test_counters_of_x86(tmp_path):
    counters = {
        f"devices__system__cpu__cpu{i}__thermal_throttle__{k}_throttle_count": "2"
        for i in (0, 1)
        for k in ("core", "package")
    }
    assert Throttle(written(tmp_path, **counters)).read() == (False, 8)


def test_a_system_that_does_not_tell(tmp_path):
    assert Throttle(tmp_path).read() is None


def shares(readings: list[tuple[bool, int] | None]) -> float | None:
    clock, left = iter(range(0, 10**9, 1000)), iter(readings)
    watch = Watch(lambda: next(clock), lambda: next(clock), lambda: 0, True, lambda: next(left))
    rounds = race(
        [[lambda: None]],
        budget_ns=0,
        min_rounds=len(readings) // 2,
        warmup=1,
        rng=np.random.default_rng(0),
        watch=watch,
    )
    return throttled_share(rounds)


def test_a_round_is_throttled_at_either_end_or_when_a_counter_grew():
    calm, slow = (False, 3), (True, 3)
    assert shares([calm, calm, slow, calm, calm, slow, (False, 3), (False, 4)]) == 0.75
    assert shares([calm, calm]) == 0
    assert shares([None, None]) is None


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A made-up /sys that kits of this test read."""
    made = tmp_path / "sys"
    source = kits.runner_source().replace('Path("/sys")', f"Path({str(made)!r})")
    assert str(made) in source
    monkeypatch.setattr(kits, "runner_source", lambda: source)
    return made


def run(kit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run.py", "--seconds", "0.05", *words]
    return subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False)


def test_a_kit_refuses_to_start_on_a_hot_device(tmp_path, system):
    pytest.importorskip("sklearn")
    zones(system, "82000")
    kit = bundle((MODEL, MODEL), "digits", out=tmp_path / "kit", samples=4)
    ended = run(kit)
    assert ended.returncode
    assert "82 °C, more than the limit of 75 °C" in ended.stderr
    assert not (kit / "result.json").exists()
    assert run(kit, "--max-celsius", "85").returncode == 0
    result = read_result(kit / "result.json")
    assert result.celsius == {"before": [82.0], "after": [82.0]}
    assert result.throttled is None


def test_the_limit_of_a_kit_is_that_of_its_maker(tmp_path, system):
    pytest.importorskip("sklearn")
    zones(system, "60000")
    kit = bundle((MODEL,), "digits", out=tmp_path / "kit", samples=4, max_celsius=50)
    assert "60 °C, more than the limit of 50 °C" in run(kit).stderr


def test_a_hot_device_is_an_error_here(system):
    pytest.importorskip("sklearn")
    zones(system, "82000")
    with pytest.raises(NativeError, match=r"ONX405.*82 °C"):
        measure_on(f"local://{sys.executable}", (MODEL,), "digits", seconds=0.05)
    found = measure_on(f"local://{sys.executable}?max_celsius=90", (MODEL,), "digits", seconds=0.05)
    assert found.celsius["before"] == [82.0]


def test_the_share_of_throttled_runs_is_stated(tmp_path, system):
    pytest.importorskip("sklearn")
    written(system, **{"devices__platform__soc__soc:firmware__get_throttled": "4"})
    kit = bundle((MODEL, MODEL), "digits", out=tmp_path / "kit", samples=4)
    assert run(kit).returncode == 0
    result = read_result(kit / "result.json")
    assert result.throttled == 1
    assert "('throttled runs', '100 %')" in str(device_document(result).blocks)
    text = (kit / "result.json").read_text()
    (kit / "result.json").write_text(text.replace('"throttled": 1.0', '"throttled": 1.5'))
    with pytest.raises(DataError, match=r"ONX201.*throttled"):
        read_result(kit / "result.json")
