"""A model of 2.2 GB goes through check, inspect and the passes that work weight by weight, in little memory."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"
JOBS = ("check", "inspect", "ours-rtn8", "ours-rtn4", "ours-dynamic")
LAYERS = 16


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module("large")
    finally:
        sys.path.remove(str(BENCH))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_bounded_by_the_largest_weight(bench: ModuleType, tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 6 << 30:
        pytest.skip("this needs 6 GB of disk")
    model = tmp_path / "model.onnx"
    bench.make(model, LAYERS)
    most = 4 * 4 * bench.WIDTH * bench.INNER + 300_000_000
    try:
        for job in JOBS:
            out = tmp_path / job
            out.mkdir()
            command = [sys.executable, str(BENCH / "large.py"), "--job", job, str(model), str(out / "out.onnx")]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            assert json.loads(ended.stdout.splitlines()[-1])["private_bytes"] < most, job
            shutil.rmtree(out)
    finally:
        shutil.rmtree(tmp_path)


def test_a_slower_or_larger_pass_is_found(bench: ModuleType) -> None:
    theirs = {"job": "ort-rtn4", "cpu_seconds": 10.0, "peak_bytes": 100}
    mine = {"job": "ours-rtn4", "cpu_seconds": 13.0, "peak_bytes": 50}
    assert bench._worse([theirs, mine]) == []
    assert bench._worse([theirs, mine | {"cpu_seconds": 13.1}]) == ["ours-rtn4"]
    assert bench._worse([theirs, mine | {"peak_bytes": 51}]) == ["ours-rtn4"]
    assert bench._worse([mine]) == []
