"""The page of results is what the newest records say."""

import importlib
import itertools
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


def test_wide_networks_have_medians_of_their_own(scoreboard, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path)
    monkeypatch.setattr(scoreboard, "HERE", tmp_path / "x")
    narrow, other, broad = record("a", 2.0), record("b", 3.0), {**record("c", 9.0), "wide": True}
    written(tmp_path, [narrow, other])
    assert "32 channels" not in scoreboard.page()
    written(tmp_path, [narrow, other, broad])
    assert "in every layer but the last (tf_kws_dnn_m): 9.00x faster, 4.00x smaller. Over" in scoreboard.page()
    assert "Medians over all of them: 3.00x faster" in scoreboard.page()


def test_models_that_learn_have_a_section(scoreboard, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path)
    monkeypatch.setattr(scoreboard, "HERE", tmp_path / "x")
    written(tmp_path, [record("a", 2.0)])
    (tmp_path / "2026-01-02-optimize.json").rename(tmp_path / "2026-01-02-optimize-train.json")
    page = scoreboard.page()
    assert "## With training" in page
    assert "learn from the original" in page
    assert "A search may take 60 seconds" in page
    assert "## Labelled models" not in page


def test_a_processor_without_vnni_has_a_section_and_no_command(scoreboard, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path)
    monkeypatch.setattr(scoreboard, "HERE", tmp_path / "x")
    model = record("a", 2.0)
    model["environment"]["isa"] = ["avx", "avx2", "fma"]
    written(tmp_path, [model])
    (tmp_path / "2026-01-02-optimize.json").rename(tmp_path / "2026-01-02-optimize-avx2.json")
    page = scoreboard.page()
    assert "## Labelled models on x86 without VNNI" in page
    assert "a processor (avx2), 2 cores" in page
    model["environment"]["isa"] += ["avx512_vnni"]
    written(tmp_path, [model])
    assert "a processor (avx512_vnni), 2 cores" in scoreboard.page()
    commands = [" ".join(line) for line in scoreboard.commands([])]
    assert "bench/optimize.py --prune --time-limit 120 --seconds 6" in commands
    assert not any("avx2" in line for line in commands)


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
    assert "| DNN M, keywords (1000) | 80.00 % | new | - | +0.50 |" in after
    assert scoreboard.readme(after) == after


def test_the_committed_pages_are_what_the_records_say(scoreboard) -> None:
    assert scoreboard.PAGE.read_text() == scoreboard.page()
    readme = scoreboard.README.read_text()
    assert readme == scoreboard.readme(readme)


def test_rows_say_their_division_and_class(scoreboard) -> None:
    table = importlib.import_module("optimize_table")
    assert table.division([]) == "-"
    assert table.division(["Simplify(fuse=True)", "QuantizeStatic(method='minmax')"]) == "quantized only"
    assert table.division(["simplify", "quantize-dynamic"]) == "quantized only"
    for other in ("PruneChannels(ratio=0.5)", "prune-blocks{share=0.9}", "Factorize(macs=0.5)", "DepthwiseSeparable()"):
        assert table.division([other, "QuantizeStatic()"]) == "pruned/trained"
    assert [table.of_class(kept) for kept in (1.01, 0.999, 0.9989, 0.99, 0.9899, float("nan"))] == [
        ">= 99.9 %", ">= 99.9 %", ">= 99 %", ">= 99 %", "below 99 %", "below 99 %"
    ]  # fmt: skip
    text = table.table([record("static-minmax", 2.0) | {"passes": ["PruneChannels()", "QuantizeStatic()"]}])
    assert "| pruned/trained | >= 99 % |" in text


def test_the_readme_says_division_and_class_of_each_row(scoreboard) -> None:
    table = importlib.import_module("optimize_table")
    models = [
        record("a", 2.0) | {"passes": ["QuantizeStatic()"]},
        record("b", 2.0) | {"passes": ["PruneChannels()", "QuantizeStatic()"]},
        record(None, None),
    ]
    models[1]["rows"]["onnxopt"]["drop"] = 0.2
    heads, _, *rows = (line.split(" | ") for line in table.short_table(models).splitlines())
    assert [row[heads.index("class")] for row in rows] == ["closed, 99 %", "open, below 99 %", "-"]


def test_benches_of_other_tools_get_their_environments(scoreboard) -> None:
    lines = scoreboard.commands(["nncf=/a/python", "onnxsim=/a/python", "olive-ai=/b/python"])
    given = {line[0]: [b for a, b in itertools.pairwise(line) if a == "--venv"] for line in lines}
    assert given["bench/repair_files.py"] == ["/a/python", "/b/python"]
    assert given["bench/quantize.py"] == given["bench/deployed_int8.py"]
    assert given["bench/quantize.py"] == ["nncf=/a/python", "onnxsim=/a/python", "olive-ai=/b/python"]
    assert given["bench/clock.py"] == []
    for line in lines:
        assert (BENCH.parent / line[0]).is_file()


def again(name: str, low: float, high: float, drop: float) -> dict[str, Any]:
    ours = {"drop_interval": [drop, drop + 0.01], "speedup": {"low": low, "value": (low + high) / 2, "high": high}}
    return {"model": name, "rows": {"onnxopt": ours}}


@pytest.mark.parametrize(
    ("now", "agrees", "status"),
    [
        (again("a", 1.9, 2.1, 0.0), "a: speedup (1.8, 2.0) before, (1.9, 2.1) now: agrees", 0),
        (again("a", 2.1, 2.3, 0.0), "a: speedup (1.8, 2.0) before, (2.1, 2.3) now: DIFFERS", 1),
        (again("a", 1.8, 2.0, 0.02), "a: drop_interval (0.0, 0.01) before, (0.02, 0.03) now: DIFFERS", 1),
    ],
)
def test_a_row_that_is_measured_again_must_overlap(scoreboard, tmp_path, monkeypatch, capsys, now, agrees, status):
    module = importlib.import_module("scoreboard_again")
    ran = []

    def run(command, **_):
        ran.append(command[1:])
        Path(command[-1]).write_text(json.dumps({"models": [now]}))

    monkeypatch.setattr(module.subprocess, "run", run)
    before = (
        tmp_path / "2026-01-01-optimize.json",
        {"settings": {"time_limit": 60.0}, "models": [again("a", 1.8, 2.0, 0.0)]},
    )
    assert module.again("optimize", "", before) == status
    assert agrees in capsys.readouterr().out
    assert ran[0][:-1] == [str(BENCH / "optimize.py"), "a", "--prune", "--time-limit", "60.0", "--out"]
    with pytest.raises(SystemExit, match="no row b"):
        module.again("optimize", "b", before)
    with pytest.raises(SystemExit, match="cannot be measured again"):
        module.again("clock", "", before)


def test_every_row_of_a_committed_record_can_be_compared(scoreboard) -> None:
    module = importlib.import_module("scoreboard_again")
    for kind, bench in module.BENCHES.items():
        found = scoreboard.newest(kind)
        if found is None:
            continue
        for row in found[1][bench.rows]:
            assert bench.command(row[bench.name], found[1].get("settings") or {})[0].endswith(".py")
            intervals = bench.intervals(row)
            assert intervals
            assert all(one is None or one[0] <= one[1] for one in intervals.values())
