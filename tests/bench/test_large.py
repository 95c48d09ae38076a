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


def test_a_job_that_fails_is_a_row(bench: ModuleType, tmp_path: Path) -> None:
    row = bench.row_of("check", tmp_path / "none.onnx", tmp_path, None)
    assert row["job"] == "check"
    assert "none.onnx" in row["failed"]
    assert list(tmp_path.iterdir()) == []
    theirs = {"job": "ort-rtn4", "cpu_seconds": 10.0, "peak_bytes": 100}
    assert bench._worse([theirs, {"job": "ours-rtn4", "failed": "x"}]) == []


def test_an_older_result_is_whole_where_the_disk_is_full(bench: ModuleType, tmp_path: Path, monkeypatch) -> None:
    for name, value in {"WIDTH": 64, "INNER": 96, "ROWS": 2000}.items():
        monkeypatch.setattr(bench, name, value)
    bench.make(tmp_path / "model.onnx", 1)
    driver = (
        f"import sys; sys.path.insert(0, {str(BENCH)!r}); import large; from pathlib import Path\n"
        "large.ROOM_BYTES = int(sys.argv[2])\n"
        "large._full_disk(Path(sys.argv[1]) / 'model.onnx', Path(sys.argv[1]) / 'out' / 'out.onnx')"
    )
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", driver, str(tmp_path)]
    full = subprocess.run([*command, "20000"], capture_output=True, text=True, check=False)
    assert (full.returncode, full.stdout[:6]) == (0, "ONX503"), full.stderr
    room = subprocess.run([*command, "9000000"], capture_output=True, text=True, check=False)
    assert room.returncode == 1
    assert "more was written than there was room" in room.stderr
