"""How often a pass has ONNX Runtime load a graph, which for thousands of nodes is a large part of its time."""

import onnxruntime
import pytest

from bench.large_graphs import Loads, timed


@pytest.mark.parametrize(
    ("spec", "growing", "loads"),
    [
        ("simplify", False, 1),
        ("quantize-dynamic", False, 2),  # the float model, the result
        ("quantize-static", False, 2),
        ("quantize-static{form=qoperator}", False, 2),
        ("quantize-static", True, 3),  # that of the ranges gives the outputs to compare with; one remedy is tried
        ("quantize-static{form=qoperator}", True, 3),
    ],
)
def test_no_graph_is_loaded_twice(spec: str, growing: bool, loads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", Loads)
    assert len(timed(spec, 120, growing=growing)["loads_cpu_s"]) == loads
