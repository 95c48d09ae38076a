"""The bench of repairs: promises that a row may break, files of several environments in one folder, and inputs."""

import importlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxopt.model_file import save
from tests import builders

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("repair")


@pytest.fixture(scope="module")
def files(bench):
    return importlib.import_module("repair_files")


RIGHT = {"speed_up": 2.0, "interval": [1.9, 2.1], "exact": True, "change": 0.0, "reordering": 0.0,
         "change_as_run": 0.01, "slack": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"speed_up": None}, ""),
        ({"interval": [0.8, 1.01]}, ""),
        ({"interval": [0.8, 0.99]}, "slower"),
        ({"change": 1e-9}, "not equal"),
        ({"change": 1e-9, "reordering": 1e-6}, ""),
        ({"exact": False, "change": 0.04}, ""),
        ({"exact": False, "change": 0.06}, "changed beyond the bound"),
        ({"change_as_run": 0.06}, "changed beyond the bound"),
        ({"change_as_run": 0.06, "slack": 0.04}, ""),
    ],
)
def test_a_broken_promise_is_named(bench, changed, expected):
    assert bench.wrong(RIGHT | changed) == expected


def test_versions_and_failures_of_several_environments_add_up(files, tmp_path, monkeypatch):
    (tmp_path / "b.onnx").touch()
    before = {"versions": {"nncf": "3.4"}, "failures": {"a": "no", "b": "was made since"}}
    (tmp_path / "about.json").write_text(json.dumps(before))
    files.told(tmp_path, {"c": "no either"})
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["failures"] == {"a": "no", "c": "no either"}
    assert about["versions"]["nncf"] == "3.4"
    assert about["versions"]["onnx"] == onnx.__version__


def test_the_files_of_a_tool_are_made_where_it_is_installed(files, monkeypatch):
    tools = importlib.import_module("repair_tools")
    here = {"onnxopt", "nncf"}
    monkeypatch.setattr(tools, "find_spec", lambda name: name if name in here else None)
    assert [way for way in tools.WAYS if tools.installed(way) and not way.startswith("onnxruntime")] == [
        "nncf-ptq", "nncf-weights"
    ]  # fmt: skip
    assert sum(tools.installed(way) for way in tools.WAYS) > 2
    here.remove("onnxopt")
    assert [way for way in tools.WAYS if tools.installed(way)] == ["nncf-ptq", "nncf-weights"]


def test_a_file_is_made_once_and_a_failure_leaves_none(files, tmp_path, monkeypatch):
    made = []

    def good(out):
        made.append(out.name)
        out.write_bytes(b"x")

    def bad(out):
        out.write_bytes(b"half")
        raise ValueError("no\nsecond line")

    monkeypatch.setattr(files, "wanted", lambda folder: iter([("a--x", good), ("a--y", bad)]))
    assert files.attempts(tmp_path, "") == {"a--y": "ValueError: no"}
    assert files.attempts(tmp_path, "x") == {}
    assert made == ["a--x.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["a--x.onnx"]


def test_stored_inputs_are_used_half_for_the_repair_and_half_for_the_judgement(bench, tmp_path):
    path, *_ = save(builders.gemm_mlp(), tmp_path / "m--given.onnx")
    given, fresh = bench._inputs(path)
    assert given is None
    assert len(fresh) == len(bench.FRESH_SEEDS)
    (name,) = fresh[0]
    (tmp_path / "inputs").mkdir()
    arrays = {f"{i}/{name}": np.full_like(fresh[0][name], i) for i in range(4)}
    np.savez(tmp_path / "inputs" / "m--given.npz", **arrays)
    given, fresh = bench._inputs(path)
    assert [[float(feeds[name].flat[0]) for feeds in part] for part in (given, fresh)] == [[0, 1], [2, 3]]


def test_convolutions_on_integers_are_counted(bench, tmp_path):
    tools = importlib.import_module("repair_tools")
    path, *_ = save(builders.residual_cnn(), tmp_path / "float.onnx")
    integers, convolutions = bench._convolutions(path)
    assert integers == 0
    assert convolutions > 1
    tools.WAYS["onnxruntime-qdq-u8s8"](onnx.load(path), tmp_path / "int8.onnx")
    assert bench._convolutions(tmp_path / "int8.onnx") == [convolutions, convolutions]


def test_the_guide_shows_what_was_measured(bench):
    module = importlib.import_module("repair_table")
    newest = sorted((BENCH / "results").glob("*-repair.json"))[-1]
    record, guide = json.loads(newest.read_text()), (BENCH.parent / "docs" / "repair.md").read_text()
    text = module.table(record["rows"])
    assert len(text.splitlines()) > 15
    assert text in guide
    assert newest.name in guide
    assert f"{record['summary']['median_speed_up_of_mended']:.2f}x" in guide
    ran, failed = record["summary"]["files"], len(record["failures"])
    assert f"Of {ran + failed} files ONNX Runtime runs {ran}" in guide
