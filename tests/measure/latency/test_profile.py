import tempfile
from pathlib import Path

import numpy as np
import pytest
from measure_models import built, linear
from onnx import TensorProto, helper

from onnxopt.measure.latency.profile import NodeNames, _kernels, profile, summarize
from onnxopt.measure.runtime.session import Runtime, optimized_model

VALUE = helper.make_tensor_value_info


def convolutions():
    """Conv -> Relu -> Conv -> Add -> Relu: blocked and fused by ONNX Runtime."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["out"], name="relu2"),
    ]
    weights = {name: rng.normal(size=(32, 32, 3, 3)).astype(np.float32) for name in ("w1", "w2")}
    shape = [1, 32, 16, 16]
    return built(nodes, [VALUE("x", TensorProto.FLOAT, shape)], [VALUE("out", TensorProto.FLOAT, shape)], weights)


@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
def test_fused_kernels_are_found_under_the_users_names(optimization):
    feeds = {"x": np.ones((1, 32, 16, 16), np.float32)}
    result = profile(convolutions(), feeds, Runtime(optimization=optimization), runs=3)
    mapped = {node.name for node in result.nodes if node.mapped}
    assert {"conv1", "conv2"} <= mapped <= {"conv1", "relu1", "conv2", "add", "relu2"}
    assert sum(node.share for node in result.nodes) == pytest.approx(1)
    assert sum(node.time_ms for node in result.nodes) == pytest.approx(result.total_ms)
    assert sum(result.by_op.values()) == pytest.approx(result.total_ms)
    assert sum(node.share for node in result.nodes if node.mapped) > 0.5
    assert [n.time_ms for n in result.nodes] == sorted((n.time_ms for n in result.nodes), reverse=True)
    assert result.runs == 3


def test_no_files_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    profile(linear(np.eye(3)), {"x": np.ones((1, 3), np.float32)}, Runtime(), runs=1)
    assert list(Path(tmp_path).iterdir()) == []


def test_times_are_per_run_and_shares_add_up():
    names = NodeNames(linear(np.eye(3)).graph, optimized_model(linear(np.eye(3)), Runtime()).graph)
    kernels = [("gemm_token_7", "FusedGemm", 3000), ("ReorderInput", "ReorderInput", 1000)] * 2
    result = summarize(kernels, names, runs=2)
    gemm, reorder = result.nodes
    assert (gemm.name, gemm.op_type, gemm.time_ms, gemm.share, gemm.mapped) == ("gemm", "FusedGemm", 3, 0.75, True)
    assert (reorder.name, reorder.mapped) == ("ReorderInput", False)
    assert result.by_op == {"FusedGemm": 3, "ReorderInput": 1}
    assert summarize([], names, runs=2).total_ms == 0


def test_a_kernel_named_for_a_value_belongs_to_the_operator_it_runs():
    graph = convolutions().graph
    names = NodeNames(graph, graph)
    assert names.find("r1_nchwc", "Conv") == "conv1"
    assert names.find("out_nchwc", "Conv") == "conv2"
    assert names.find("conv1_quant", "QLinearConv") == "conv1"
    assert names.find("relu1", "Relu") == "relu1"
    assert names.find("nowhere", "Relu") is None


def event(name, op_type, ts, dur):
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op_type}}


def test_bodies_of_loops_are_not_counted_twice_and_the_first_run_not_at_all():
    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 90},
        event("add", "Add", 10, 50),
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 200},
        event("scan", "Scan", 100, 80),
        event("mul", "Mul", 110, 20),
        event("mul", "Mul", 140, 20),
        event("add", "Add", 180, 30),
    ]
    assert _kernels(events) == [("scan", "Scan", 40), ("mul", "Mul", 20), ("mul", "Mul", 20), ("add", "Add", 30)]
