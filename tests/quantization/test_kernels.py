"""What is said to run in INT8 does, and what is left in float is float, in the graph that the runtime makes."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.graph.edit import lift_constants, name_nodes
from onnxopt.measure.runtime.session import Runtime, Session, optimized_model, session_and_graph
from onnxopt.model_file import from_runtime
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.quantization.kernels import Execution, executions
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.target import target_of
from tests import builders


def made(name: str, spec: str = "quantize-static") -> tuple[ir.Model, ir.Model, Step]:
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=8))
    before = Pipeline(parse("simplify")).run(model, context).model
    result = Pipeline(parse(spec)).run(before, context)
    return before, result.model, result.steps[-1]


def by_name(before: ir.Model, after: ir.Model) -> dict[str, Execution]:
    return {layer.name: layer for layer in executions(before, after, {})}


CASES = [
    ("residual_cnn", {"Conv_3": "QLinearConv", "Add_8": "QLinearAdd", "Gemm_12": "QGemm"}),
    ("depthwise_separable", {"Conv_2": "QLinearConv", "GlobalAveragePool_6": "QLinearGlobalAveragePool"}),
    ("transformer_17", {"MatMul_0": "QLinearMatMul", "Softmax_14": "QLinearSoftmax", "Reshape_2": "Reshape"}),
    ("embedding", {"Gather_0": "Gather", "MatMul_6": "QLinearMatMul"}),
]


@pytest.mark.parametrize(("name", "kernels"), CASES)
def test_integer_kernels_are_named(name: str, kernels: dict[str, str]) -> None:
    before, after, _ = made(name)
    found = by_name(before, after)
    assert {layer: found[layer].kernel for layer in kernels} == kernels
    assert all(found[layer].integer and not found[layer].reason for layer in kernels)


@pytest.mark.parametrize("layer", ["Conv_0", "Conv_3", "Gemm_12"])
def test_an_excluded_layer_is_float_in_the_graph_that_runs(layer: str) -> None:
    before, after, step = made("residual_cnn", f"quantize-static{{exclude=[{layer}]}}")
    found = by_name(before, after)
    assert not found[layer].integer
    assert not found[layer].kernel.startswith("QLinear")
    assert found[layer].reason
    assert {s.target: s.reason for s in step.skipped}[layer] == "excluded"
    assert all(found[other].integer for other in ("Conv_0", "Conv_3", "Gemm_12") if other != layer)
    runs = [node.op_type for node in optimized_model(after, Runtime()).graph]
    assert {"Conv", "FusedConv", "Gemm", "FusedGemm"} & set(runs)


def test_what_feeds_several_consumers_is_set_to_run_in_float() -> None:
    before, after, step = made("nested_capture")
    assert by_name(before, after)["MatMul_0"].reason == "its output feeds 3 consumers"
    assert {s.target: s.reason for s in step.skipped}["MatMul_0"] == "it runs in float: its output feeds 3 consumers"
    assert "MatMul_0" not in {e.target for e in step.edits}


def test_q_dq_that_the_runtime_does_not_fuse_are_reported() -> None:
    before, after, step = made("data_movement")
    found = by_name(before, after)
    assert not found["Pad_6"].integer
    assert found["Slice_7"].integer
    assert "Pad_6" in {s.target for s in step.skipped}


def test_the_reason_of_whoever_left_it_is_kept() -> None:
    before, after, _ = made("residual_cnn", "quantize-static{exclude=[Conv_3]}")
    layers = {layer.name: layer for layer in executions(before, after, {"Conv_3": "slower in INT8: 0.52x"})}
    assert layers["Conv_3"].reason == "slower in INT8: 0.52x"


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-dynamic", "quantize-static{form=qoperator}"])
@pytest.mark.parametrize("name", ["residual_cnn", "transformer_17", "data_movement"])
def test_the_graph_of_the_session_that_tried_the_model_says_the_same(name: str, spec: str) -> None:
    before, after, _ = made(name, spec)
    session, optimized = session_and_graph(after, Runtime())
    again = optimized_model(after, Runtime())
    assert [node.op_type for node in from_runtime(optimized).graph] == [node.op_type for node in again.graph]
    assert executions(before, after, {}, optimized) == executions(before, after, {})
    feeds = builders.feeds_of(after)
    for one, other in zip(session.run(feeds), Session(after, Runtime()).run(feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pass_loads_its_result_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxopt.quantization.kernels.session_and_graph", lambda *_: pytest.fail("loaded once more"))
    _, _, step = made("residual_cnn")
    assert any("QLinearConv" in edit.action for edit in step.edits)
    made("gemm_mlp", "quantize-dynamic")


def test_the_float_model_has_no_integer_kernel() -> None:
    before, _, _ = made("residual_cnn")
    found = executions(before, before, {})
    assert found
    assert not any(layer.integer for layer in found)


@pytest.mark.parametrize("name", ["gemm_mlp", "transformer_17", "lstm", "shared_weights"])
def test_dynamic_kernels_are_named(name: str) -> None:
    before, after, step = made(name, "quantize-dynamic")
    found = by_name(before, after)
    edited = {e.target for e in step.edits}
    assert edited
    starts = ("DynamicQuantize", "MatMulInteger")
    weighted = [layer for layer in found.values() if layer.name in edited and layer.op_type != "Gather"]
    assert weighted
    assert all(layer.integer and layer.kernel.startswith(starts) for layer in weighted)


EVERY_LAYER = [
    (name, node.name or "")
    for name in ("residual_cnn", "depthwise_separable", "gemm_mlp", "nhwc", "data_movement")
    for node in builders.BUILDERS[name]().graph
    if node.op_type in ("Conv", "Gemm")
]


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
def test_the_runtime_never_quantizes_an_excluded_layer_by_itself(name: str, layer: str, form: str) -> None:
    before, after, step = made(name, f"quantize-static{{exclude=[{layer}],form={form}}}")
    assert not by_name(before, after)[layer].integer
    assert {s.target: s.reason for s in step.skipped}[layer] == "excluded"


def test_keeping_in_float_changes_no_output() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    before, after, _ = made("residual_cnn", "quantize-static{exclude=[Conv_3]}")
    plain = after.clone()
    node = next(n for n in plain.graph if n.name == "Conv_3")
    dequantize = node.inputs[0].producer() if node.inputs[0] is not None else None
    assert dequantize is not None
    assert dequantize.inputs[1] is not None
    assert dequantize.inputs[1].const_value is not None
    assert dequantize.inputs[1].const_value.size == 8  # one scale per channel of what it reads
    shared = next(n for n in plain.graph if n.name == "relu_8_DequantizeLinear")
    node.replace_input_with(0, shared.outputs[0])
    feeds = builders.feeds_of(model, batch=2)
    # Without the runtime's optimizations neither is quantized by it.
    (ours,), (theirs,) = builders.run(after, feeds, False), builders.run(plain, feeds, False)
    assert np.array_equal(ours, theirs)
    assert by_name(before, plain)["Conv_3"].integer


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-dynamic"])
@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_weighted_layer_is_quantized_or_left_with_a_reason(name: str, spec: str) -> None:
    model = builders.BUILDERS[name]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model, count=4))
    step = Pipeline(parse(spec)).run(model, context).steps[-1]
    named = model.clone()
    lift_constants(named)
    name_nodes(named)
    weighted = {node.name for node in named.graph if node.op_type in WEIGHTED and not node.domain}
    told = {skip.target for skip in step.skipped if skip.reason}
    assert "graph" in told or weighted <= told | {edit.target for edit in step.edits}
    assert not told & {edit.target for edit in step.edits}
