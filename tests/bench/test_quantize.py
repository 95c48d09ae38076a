"""The bench of quantizers: who counts as behind, and that a maker's file, failure and facts are told apart."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import load, save, signature_of
from onnxopt.samples import Samples, open_samples
from tests import builders


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("quantize")


def easy_classifier(path: Path) -> tuple[Path, Samples]:
    """Write a network for breast cancer, whose answers stay right with much noise in its weights."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn has the data and the training")
    networks = importlib.import_module("sklearn.neural_network")
    features, labels = datasets.load_breast_cancer(return_X_y=True)
    features = ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32)
    learned = networks.MLPClassifier((64, 32), random_state=0, max_iter=500).fit(features[:341], labels[:341])
    net, value = builders.Net(0), "x"
    for weights, biases in zip(learned.coefs_, learned.intercepts_, strict=True):
        one, two = (net.const(array.astype(np.float32)) for array in (weights, biases))
        value = net.node("Gemm", value if value == "x" else net.node("Relu", value), one, two)
    net.node("Concat", net.node("Neg", value), value, axis=1, out="y")
    floats = onnx.TensorProto.FLOAT
    onnx.save(net.proto([("x", floats, ["batch", 30])], [("y", floats, ["batch", 2])]), path)
    return path, open_samples({"x": features[341:]}, signature_of(load(path)), labels=labels[341:])


def row(drop, speedup):
    return {"drop": drop, "speedup": speedup, "speedup_interval": [speedup - 0.1, speedup + 0.1], "size_bytes": 50}


def test_a_peer_is_ahead_only_when_it_is_faster_and_loses_no_more(bench):
    peers = {"ort-u8s8": row(0.01, 2.07), "nncf": row(0.0, 1.0), "ort-default": row(0.05, 9.0)}
    assert bench.behind(peers | {"onnxopt": row(0.01, 2.0)}, "onnxopt") == ["ort-u8s8"]
    assert bench.behind(peers | {"onnxopt": row(0.01, 2.05)}, "onnxopt") == []
    assert bench.behind(peers | {"onnxopt": row(0.005, 1.0)}, "onnxopt") == []


def test_the_summary_names_what_is_slower_than_float(bench):
    costs = {"p99_ms": 2.0, "load_ms": 3.0, "private_bytes": 400}
    ours = row(0.002, 0.8) | {"seconds": 1.0, "peak_mb": 2.0, "p99_ms": None, "load_ms": 6.0, "private_bytes": 100}
    rows = {"fp32": {"size_bytes": 100} | costs, "onnxopt": ours}
    one = {"model": "m", "n": 10, "accuracy": 0.8, "rows": rows, "behind": {"onnxopt": ["nncf"]}}
    models = [one | {"failures": {"nncf": "no"}}]
    found = bench.summary(models)["onnxopt"]
    assert found["slower_than_fp32"] == ["m"]
    assert found["median_relative_drop"] == pytest.approx(0.0025)
    assert found["behind"] == {"m": ["nncf"]}
    files, medians = (part.splitlines() for part in bench.table(models).split("\n\n"))
    assert "+0.20 / 0.80 (0.70 to 0.90)" in files[2]
    assert files[2].count("fails") == 1
    assert (
        medians[2] == "| onnxopt | 1 | 0.80 | 1 | 1 | 0 | 0.25 % | 0.20 | 0.50 | - | 2.00 | 0.25 | 1.0 s | 2 MB | 3 |"
    )


def test_a_control_that_is_not_found_where_it_belongs_is_named(bench):
    rows = {
        "again": row(0.0, 1.02),
        "planted-slower": row(0.0, 0.95),
        "planted-worse": row(0.2, 1.0) | {"drop_interval": [0.1, 0.3]},
    }
    found = bench.summary([{"model": "m", "accuracy": 0.8, "rows": rows}])["controls"]
    assert {name: control["missed"] for name, control in found.items()} == {
        "again": [], "planted-slower": ["m"], "planted-worse": []
    }  # fmt: skip


def test_planted_files_compute_the_same_twice_and_something_worse(bench, tmp_path):
    model = builders.gemm_mlp()
    path, *_ = save(model, tmp_path / "model.onnx")
    files = importlib.import_module("controls").controls(path, tmp_path / "controls")
    feeds = builders.samples_of(model, 8)
    (batch, *_) = feeds.with_batch_size(8)
    expected, again, slower, worse = (
        builders.run(file.read_bytes(), batch)[0]
        for file in (path, *(files[name] for name in ("again", "planted-slower", "planted-worse")))
    )
    assert np.array_equal(again, expected)
    assert np.allclose(slower, expected, rtol=1e-6)
    assert np.abs(worse - expected).max() > 0.05 * np.abs(expected).max()
    save(builders.BUILDERS["trees_only"](), tmp_path / "trees.onnx")
    assert "planted-worse" not in importlib.import_module("controls").controls(tmp_path / "trees.onnx", tmp_path / "n")
    # ONNX Runtime must not merge the two halves.
    kinds = [node.op_type for node in optimized_model(files["planted-slower"], Runtime()).graph]
    once = [node.op_type for node in optimized_model(path, Runtime()).graph]
    assert all(kinds.count(kind) >= 2 * once.count(kind) for kind in set(once) & {"Gemm", "FusedGemm", "MatMul"})


def test_the_worse_file_of_an_easy_task_is_worse_beyond_doubt(bench, tmp_path):
    path, samples = easy_classifier(tmp_path / "model.onnx")
    worse = importlib.import_module("controls").controls(path, tmp_path / "controls")["planted-worse"]
    case = type("Case", (), {"path": path, "label_offset": 0, "test": lambda _: samples})()
    found = bench.judge(case, {"fp32": path, "planted-worse": worse}, tmp_path, len(samples))
    assert found["fp32"]["accuracy"] > 0.95
    assert found["planted-worse"]["drop_interval"][0] > 0


def test_only_the_rows_of_worse_files_are_renewed(bench_module, bench):
    controls = bench_module("quantize_controls")
    rows = {"fp32": {"size_bytes": 100}, "planted-worse": row(0.0, 1.0) | {"drop_interval": [-0.1, 0.1]}}
    models = [{"model": name, "n": 10, "accuracy": 0.8, "rows": rows, "failures": {}} for name in ("a", "b")]
    before = {"environment": {}, "summary": bench.summary(models), "models": models}
    assert before["summary"]["controls"]["planted-worse"]["missed"] == ["a", "b"]
    after = controls.renewed(before, {"a": {"drop": 0.3, "drop_interval": [0.2, 0.4]}, "c": {}})
    assert after["summary"]["controls"]["planted-worse"] == {"models": 2, "missed": ["b"]}
    assert after["models"][0]["rows"] == {
        "fp32": rows["fp32"],
        "planted-worse": {"drop": 0.3, "drop_interval": [0.2, 0.4]},
    }
    assert (after["models"][1], before["models"][0]["rows"]) == (models[1], rows)


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


def test_a_failure_does_not_say_where_the_file_was(bench):
    error = ValueError("[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /some/place/a b.onnx failed: no Gemm")
    assert bench.unrunnable(error) == "ONNX Runtime cannot run it: [ONNXRuntimeError] : 10 : INVALID_GRAPH : no Gemm"
