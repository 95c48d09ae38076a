import weakref

import numpy as np
import onnx
import onnxruntime
import pytest
from measure_models import built, linear, zipmap
from onnx import TensorProto, helper

from onnxopt.errors import FileError, ModelError, NativeError, UsageError
from onnxopt.measure.runtime import providers
from onnxopt.measure.runtime import session as session_module
from onnxopt.measure.runtime.session import (
    Runtime,
    Session,
    as_shipped,
    optimized_model,
    session_and_graph,
    session_options,
)
from onnxopt.model_file import from_runtime, load, save, to_bytes
from onnxopt.options.runtime import FullRuntime, full

EYE = np.eye(3)
X = np.array([[1.0, 2.0, 3.0]], np.float32)


def test_a_model_loads_from_memory_bytes_and_path_alike(tmp_path):
    model = linear(EYE)
    (path,) = save(model, tmp_path / "m.onnx")
    for source in (model, to_bytes(model), path, str(path)):
        session = Session(source, Runtime())
        np.testing.assert_array_equal(session.run({"x": X})[0], X)
        assert session.input_names == ("x",)
        assert session.output_names == ("scores",)
        assert session.load_ms > 0


def test_outputs_can_be_chosen_and_named():
    session = Session(zipmap(), Runtime())
    assert session.run({"x": X}, ["label"])[0].tolist() == [7]
    named = session.named({"x": X})
    assert list(named) == ["label", "probabilities"]
    assert set(named["probabilities"][0]) == {3, 5, 7}


@pytest.mark.parametrize(
    ("optimization", "kept"), [("none", {"MatMul", "Add", "Identity"}), ("all", {"Gemm"}), ("basic", {"Gemm"})]
)
def test_optimized_model_is_what_really_runs(optimization, kept):
    value = helper.make_tensor_value_info
    model = built(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Add", ["y", "b"], ["z"]),
            helper.make_node("Identity", ["z"], ["out"]),
        ],
        [value("x", TensorProto.FLOAT, [2, 3])],
        [value("out", TensorProto.FLOAT, [2, 3])],
        {"w": EYE.astype(np.float32), "b": np.ones(3, np.float32)},
    )
    optimized = optimized_model(model, Runtime(optimization=optimization))
    assert {node.op_type for node in optimized.graph} == kept


def test_optimized_model_keeps_large_weights_after_its_files_are_gone():
    weight = np.random.RandomState(0).randn(600, 600).astype(np.float32)
    optimized = optimized_model(linear(weight), Runtime())
    stored = [v.const_value.numpy() for v in optimized.graph.initializers.values()]
    assert any(a.size == weight.size for a in stored)


def test_the_session_ends_before_its_graph_is_read(monkeypatch):
    opened, alive = [], []

    class Watched(Session):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            opened.append(weakref.ref(self.native))

    def read(path):
        alive.extend(one() for one in opened)
        return load(path)

    monkeypatch.setattr(session_module, "Session", Watched)
    monkeypatch.setattr(session_module, "load", read)
    optimized_model(linear(EYE), Runtime())
    assert alive == [None]


def test_the_graph_beside_a_session_comes_without_its_large_weights(tmp_path):
    weight = np.random.RandomState(0).randn(600, 600).astype(np.float32)
    session, graph = session_and_graph(linear(weight), Runtime(), profile_prefix=tmp_path / "profile")
    assert len(graph) < weight.nbytes / 10
    assert {node.op_type for node in from_runtime(graph).graph} & {"MatMul", "Gemm"}
    session.run({"x": np.ones((1, 600), np.float32)})
    assert session.end_profiling().parent == tmp_path


def test_runtime_refuses_values_that_make_no_sense():
    with pytest.raises(UsageError, match=r"ONX101.*extended"):
        Runtime(optimization="extendet")
    with pytest.raises(UsageError, match="ONX101"):
        Runtime(threads=0)


def test_runtime_passes_its_options_on():
    options = session_options(Runtime(threads=2, options=(("session.disable_prepacking", "1"),)))
    assert options.intra_op_num_threads == 2
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.disable_prepacking") == "1"
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (True, True)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    other = FullRuntime(inter_threads=3, arena=False, memory_pattern=False)
    options = session_options(other)
    assert (options.inter_op_num_threads, options.enable_cpu_mem_arena, options.enable_mem_pattern) == (3, False, False)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert (other.threads, other.most_threads) == (1, 3)
    with pytest.raises(UsageError, match=r"ONX101.*\[inter_threads\]: 0 given"):
        FullRuntime(inter_threads=0)
    assert full(Runtime(threads=2)) == FullRuntime(threads=2)


def test_a_provider_that_is_only_compiled_in_by_name_is_refused(monkeypatch):
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"ONX106.*\[openvino\].*CPUExecutionProvider.*onnxruntime-openvino"):
        Session(linear(EYE), Runtime(provider="openvino"))
    with pytest.raises(UsageError, match=r"ONX106.*a build of ONNX Runtime"):
        Session(linear(EYE), Runtime(provider="xnnpack"))


def test_an_unknown_provider_is_reported_as_such_and_full_names_work():
    with pytest.raises(UsageError, match=r"ONX102.*openvino"):
        Session(linear(EYE), Runtime(provider="openvinno"))
    assert providers.provider_name("CPUExecutionProvider") == "CPUExecutionProvider"
    assert providers.provider_name("CPU") == "CPUExecutionProvider"


def test_a_silent_fallback_to_another_provider_is_an_error(monkeypatch):
    monkeypatch.setattr(session_module, "provider_name", lambda alias: "AzureExecutionProvider")
    monkeypatch.setattr(
        session_module.onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"]
    )
    with pytest.raises(UsageError, match=r"ONX106.*fell back"):
        Session(linear(EYE), Runtime(provider="cuda"))


def test_files_that_cannot_be_loaded(tmp_path):
    with pytest.raises(FileError, match="ONX501"):
        Session(tmp_path / "nothing.onnx", Runtime())
    with pytest.raises(ModelError, match=r"ONX304.*protobuf"):
        Session(b"not a model", Runtime())


def test_an_operator_without_a_kernel_is_named():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Atan", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.BFLOAT16, [1])],
        [value("y", TensorProto.BFLOAT16, [1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(proto)
    with pytest.raises(ModelError, match=r"ONX304.*NOT_IMPLEMENTED.*Atan.*kernel"):
        Session(proto.SerializeToString(), Runtime())


def test_failed_runs_speak_of_what_was_fed(capfd):
    session = Session(linear(EYE), Runtime())
    with pytest.raises(NativeError, match=r"ONX401.*x: float32\[1, 4\]"):
        session.run({"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(NativeError, match=r"ONX401.*missing"):
        session.run({})
    with pytest.raises(NativeError, match=r"ONX401.*float64"):
        session.run({"x": X.astype(np.float64)})
    assert capfd.readouterr().err == ""


def test_profiling_writes_a_file(tmp_path):
    session = Session(linear(EYE), Runtime(), profile_prefix=tmp_path / "p")
    session.run({"x": X})
    path = session.end_profiling()
    assert path.parent == tmp_path
    assert path.stat().st_size > 0


def test_memory_returns_to_the_system_after_the_sessions_of_a_measurement(monkeypatch):
    trimmed = []
    monkeypatch.setattr(session_module, "trim_heap", lambda: trimmed.append("now"))
    with as_shipped(linear(EYE), Runtime()) as source:
        assert np.array_equal(Session(source, Runtime()).run({"x": X})[0], X)
        assert not trimmed
    assert trimmed
