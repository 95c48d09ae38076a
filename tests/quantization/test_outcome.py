"""What became INT8 is read from the graph."""

import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.target import target_of
from tests import builders
from tests.passes.test_quantize_tables import language_model


def step(spec: str, builder: str) -> Step:
    model = builders.BUILDERS[builder]()
    context = Context(target_of("x86-vnni"), builders.samples_of(model))
    return Pipeline(parse(spec)).run(model, context).steps[-1]


CASES = [
    ("quantize-dynamic", "residual_cnn", "Conv_0", "dynamic quantization makes convolutions slower"),
    ("quantize-dynamic", "gru", "GRU_1", "the runtime has no INT8 GRU"),
    ("quantize-static", "gru", "GRU_1", "the runtime has no INT8 GRU"),
    ("quantize-static", "lstm", "LSTM_1", "the runtime has no static INT8 LSTM"),
    ("quantize-dynamic{op_types=[MatMul]}", "gemm_mlp", "Gemm_0", "not among the op types chosen"),
    ("quantize-static{op_types=[MatMul]}", "gemm_mlp", "Gemm_0", "not among the op types chosen"),
    ("quantize-dynamic", "already_quantized", "MatMul_3", "it is quantized already"),
    ("quantize-static", "already_quantized", "MatMul_3", "it is quantized already"),
    ("quantize-dynamic{exclude=[Gemm_2]}", "gemm_mlp", "Gemm_2", "excluded"),
    ("quantize-dynamic{op_types=[Gemm]}", "shared_weights", "MatMul_4", "not among the op types chosen"),
    ("quantize-static{exclude=[Conv_0]}", "residual_cnn", "Conv_0", "excluded"),
    ("quantize-static{exclude=[Gemm_12]}", "residual_cnn", "Gemm_12", "excluded"),
    (
        "quantize-static{op_types=[Conv,GlobalAveragePool,Flatten]}",
        "residual_cnn",
        "Gemm_12",
        "not among the op types chosen",
    ),
    ("quantize-dynamic", "transformer_13", "MatMul_12", "its weights are not constant"),
]


@pytest.mark.parametrize(("spec", "builder", "layer", "reason"), CASES)
def test_what_stays_in_float_says_why(spec: str, builder: str, layer: str, reason: str) -> None:
    found = step(spec, builder)
    assert {s.target: s.reason for s in found.skipped}.get(layer) == reason
    assert layer not in {e.target for e in found.edits}


ALL = [
    ("quantize-static", "residual_cnn", {"Conv"}),
    ("quantize-static{form=qoperator}", "residual_cnn", {"Conv"}),
    ("quantize-static", "gemm_mlp", {"Gemm"}),
    ("quantize-static", "constant_nodes", {"MatMul", "Gemm"}),
    ("quantize-static", "careless_names", {"MatMul"}),
    ("quantize-dynamic", "gemm_mlp", {"Gemm"}),
    ("quantize-dynamic", "constant_nodes", {"MatMul", "Gemm"}),
    ("quantize-dynamic{op_types=[Gemm]}", "shared_weights", {"Gemm"}),
    ("quantize-dynamic", "lstm", {"LSTM", "Gemm"}),
    ("quantize-dynamic", "shared_weights", {"MatMul", "Gemm"}),
]


@pytest.mark.parametrize(("spec", "builder", "ops"), ALL)
def test_every_layer_that_can_be_is_quantized(spec: str, builder: str, ops: set[str]) -> None:
    found = step(spec, builder)
    count = sum(node.op_type in ops for node in builders.BUILDERS[builder]().graph)
    assert sum(e.action.split()[0] in ops for e in found.edits) == count
    assert not [s for s in found.skipped if s.target.split("_")[0] in ops]


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-dynamic", "quantize-static{form=qoperator}"])
@pytest.mark.parametrize("builder", ["constant_nodes", "static_batch", "if_branches", "zipmap"])
def test_what_computes_nothing_is_never_called_quantized(spec: str, builder: str) -> None:
    nodes = {node.name: node for node in builders.BUILDERS[builder]().graph}
    for edit in step(spec, builder).edits:
        inside = "in its sub-graphs" in edit.action
        assert inside or nodes[edit.target].op_type not in ("Constant", "If", "ZipMap", "Shape")


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-dynamic{subgraphs=false}"])
def test_layers_inside_control_flow_are_reported_by_the_node_that_holds_them(spec: str) -> None:
    skipped = {s.target: s.reason for s in step(spec, "if_branches").skipped}
    assert [r for name, r in skipped.items() if name.startswith("If")] == [
        "nodes in its sub-graphs stay in float: 2 MatMul"
    ]


@pytest.mark.parametrize("builder", ["if_branches", "loop"])
def test_dynamic_quantization_reaches_into_control_flow(builder: str) -> None:
    found = {e.target: e.action for e in step("quantize-dynamic", builder).edits}
    inside = {name: action for name, action in found.items() if "in its sub-graphs to INT8" in action}
    assert inside
    kept = step(f"quantize-dynamic{{exclude=[{next(iter(inside))}]}}", builder)
    assert next(iter(inside)) not in {e.target for e in kept.edits}
    assert any("stay in float" in s.reason for s in kept.skipped if s.target in inside)


def test_tables_in_integers_are_named_and_one_that_is_excluded_stays() -> None:
    model, context = language_model("other"), Context(target_of("x86-vnni"))

    def quantized(*exclude: str) -> tuple[set[str], ir.DataType | None]:
        done = Pipeline((QuantizeDynamic(exclude=exclude),)).run(model, context)
        table = next(node for node in done.model.graph if node.op_type == "Gather").inputs[0]
        assert table is not None
        return {edit.target for edit in done.steps[0].edits}, table.dtype

    assert quantized() == ({"look_up", "head"}, ir.DataType.UINT8)
    assert quantized("head") == ({"look_up"}, ir.DataType.UINT8)
    assert quantized("look_up") == ({"head"}, ir.DataType.FLOAT)
