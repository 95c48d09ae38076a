"""The bench of quantizers: who counts as behind, and that a maker's file, failure and facts are told apart."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxopt.model_file import save
from tests import builders

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module("quantize")
    finally:
        sys.path.remove(str(BENCH))


def row(drop, speedup):
    return {"drop": drop, "speedup": speedup, "speedup_interval": [speedup - 0.1, speedup + 0.1], "size_bytes": 50}


def test_a_peer_is_ahead_only_when_it_is_faster_and_loses_no_more(bench):
    peers = {"ort-u8s8": row(0.01, 2.07), "nncf": row(0.0, 1.0), "ort-default": row(0.05, 9.0)}
    assert bench.behind(peers | {"onnxopt": row(0.01, 2.0)}, "onnxopt") == ["ort-u8s8"]
    assert bench.behind(peers | {"onnxopt": row(0.01, 2.05)}, "onnxopt") == []
    assert bench.behind(peers | {"onnxopt": row(0.005, 1.0)}, "onnxopt") == []


def test_the_summary_names_what_is_slower_than_float(bench):
    rows = {"fp32": {"size_bytes": 100}, "onnxopt": row(0.002, 0.8) | {"seconds": 1.0, "peak_mb": 2.0}}
    one = {"model": "m", "n": 10, "accuracy": 0.8, "rows": rows, "behind": {"onnxopt": ["nncf"]}}
    models = [one | {"failures": {"nncf": "no"}}]
    found = bench.summary(models)["onnxopt"]
    assert found["slower_than_fp32"] == ["m"]
    assert found["median_relative_drop"] == pytest.approx(0.0025)
    assert found["behind"] == {"m": ["nncf"]}
    files, medians = (part.splitlines() for part in bench.table(models).split("\n\n"))
    assert "+0.20 / 0.80 (0.70 to 0.90)" in files[2]
    assert files[2].count("fails") == 1
    assert medians[2] == "| onnxopt | 1 | 0.80 | 1 | 0.25 % | 0.20 | 0.50 | 1.0 s | 2 MB |"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_a_file_is_made_in_a_process_of_its_own(bench, tmp_path):
    model = builders.gemm_mlp()
    save(model, tmp_path / "model.onnx")
    feeds = [dict(f) for f in builders.samples_of(model, 4).with_batch_size(1)]
    folder = tmp_path / "work"
    folder.mkdir()
    np.savez(folder / "calibration.npz", **{f"{i}/{k}": v for i, f in enumerate(feeds) for k, v in f.items()})
    case = type("Case", (), {"path": tmp_path / "model.onnx"})()
    made = bench.make(case, "ort-dynamic", folder, sys.executable)
    assert (folder / "ort-dynamic.onnx").stat().st_size > 0
    assert made["package"] == "onnxruntime"
    assert made == json.loads((folder / "ort-dynamic.json").read_text())
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert bench.make(case, "ort-dynamic", folder, sys.executable) == made
    assert "failure" in bench.make(case, "ort-default", folder, sys.executable)
