"""The page of results is what the newest records say."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def scoreboard() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module("scoreboard")
    finally:
        sys.path.remove(str(BENCH))


def row(drop: float | None, speedup: float | None, size: int) -> dict[str, Any]:
    interval = None if speedup is None else {"low": speedup - 0.1, "value": speedup, "high": speedup + 0.1}
    return {"drop": drop, "drop_interval": [0, 0], "speedup": interval, "size_bytes": size}


def record(winner: str | None, speedup: float | None) -> dict[str, Any]:
    rows = {
        "baseline": row(None, 1.0, 400),
        "onnxopt": row(0.005, speedup, 100),
        "again": row(0.0, 1.3, 400),
        "ort-default": row(0.0, 5.0, 90),
    }
    return {
        "model": "tf_kws_dnn_m",
        "n": 1000,
        "baseline_accuracy": 0.8,
        "allowed_drop": 0.01,
        "winner": winner,
        "search_s": 60,
        "rows": rows,
        "failures": {"ort-u8s8": "ValueError: no"},
        "outside": None,
        "environment": {"cpu": "a processor", "cores": 2, "python": "3.11", "versions": {"onnxruntime": "1.0"}},
    }


def written(folder: Path, models: list[dict[str, Any]], date: str = "2026-01-02") -> None:
    whole = {"settings": {"time_limit": 60.0, "max_drop": "1pp"}, "models": models}
    (folder / f"{date}-optimize.json").write_text(json.dumps(whole))


def test_misses_are_said_as_plainly_as_gains(scoreboard, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path)
    monkeypatch.setattr(scoreboard, "HERE", tmp_path / "x")
    written(tmp_path, [record("static-minmax", 2.0), record(None, None)])
    page = scoreboard.page()
    assert "| tf_kws_dnn_m (1000) | 80.00 | static-minmax | +0.50 | **2.00x** [1.90, 2.10] | 4.0x |" in page
    assert "| baseline kept | +0.50 | unsure |" in page
    assert "2 models, of which 1 gained" in page
    assert "More than 3 % behind another file inside the budget, beyond doubt: tf_kws_dnn_m." in page
    assert "The clock was unsure of: tf_kws_dnn_m." in page
    assert "Control: the baseline beside itself differs on: tf_kws_dnn_m, tf_kws_dnn_m." in page
    assert "a processor, 2 cores, Python 3.11, onnxruntime 1.0" in page


def test_the_newest_record_counts_and_the_rest_of_the_readme_stays(scoreboard, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path)
    written(tmp_path, [record("old", 2.0)], "2026-01-01")
    written(tmp_path, [record("new", 2.0)], "2026-01-02")
    before = f"head\n{scoreboard.BEGIN}\n| gone |\n{scoreboard.END}\ntail\n"
    after = scoreboard.readme(before)
    assert after.startswith("head\n")
    assert after.endswith("\ntail\n")
    assert "gone" not in after
    assert "| DNN M, keywords (1000) | 80.00 % | new | +0.50 |" in after
    assert scoreboard.readme(after) == after


def test_the_committed_pages_are_what_the_records_say(scoreboard) -> None:
    assert scoreboard.PAGE.read_text() == scoreboard.page()
    readme = scoreboard.README.read_text()
    assert readme == scoreboard.readme(readme)
