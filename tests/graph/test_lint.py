import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph.lint import LARGE_CONSTANT_BYTES, RULES, Level, lint
from onnxopt.model_file import from_proto
from tests.builders import BUILDERS


def _codes(model: ir.Model) -> dict[str, tuple[str, ...]]:
    return {finding.code: finding.where for finding in lint(model)}


def _model(nodes, weights=(), kind=TensorProto.FLOAT, domain="") -> ir.Model:
    x, y = (helper.make_tensor_value_info(n, kind, [2, 2]) for n in "xy")
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(a, n) for n, a in weights])
    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def _adds(*values: float, dtype=np.float32) -> ir.Model:
    weight = np.array([[*values, 1.0]], dtype)
    kind = TensorProto.DOUBLE if dtype is np.float64 else TensorProto.FLOAT
    return _model([helper.make_node("Add", ["x", "w"], ["y"], "add")], [("w", weight)], kind)


@pytest.mark.parametrize(
    ("name", "code", "where"),
    [
        ("careless_names", "CHK203", "MatMul x3"),
        ("listed_weights_8", "CHK207", "w_1"),
        ("listed_weights_8", "CHK208", None),
        ("denormals", "CHK303", "tiny: 5"),
        ("already_quantized", "CHK306", "DequantizeLinear x3"),
        ("gemm_mlp", "CHK205", "x: float32[batch, 8]"),
    ],
)
def test_what_a_model_is_known_for_is_found(name, code, where):
    found = _codes(BUILDERS[name]())
    assert code in found
    assert where is None or where in found[code]


def test_a_clean_model_has_no_finding():
    assert _codes(BUILDERS["static_batch"]()) == {}
    assert _codes(_adds(0.0)) == {}


@pytest.mark.parametrize(("values", "code"), [((np.nan,), "CHK301"), ((np.inf, 1.0), "CHK302"), ((1e-40,), "CHK303")])
def test_weights_that_are_no_ordinary_number_are_found(values, code):
    assert _codes(_adds(*values)) in ({code: ("w",)}, {code: ("w: 1",)})


@pytest.mark.parametrize("values", [(-np.inf,), (np.inf,), (0.0, -np.inf)])
def test_bounds_and_masks_may_be_infinite(values):
    weight = np.array(values, np.float32).reshape(-1, 1)
    assert _codes(_model([helper.make_node("Add", ["x", "w"], ["y"], "add")], [("w", weight)])) == {}


def test_half_weights_that_are_nan_are_found():
    model = _adds(0.0)
    model.graph.initializers["w"].const_value = ir.tensor(np.array([[np.nan, 1]], np.float16), name="w")
    assert "CHK301" in _codes(model)


def test_double_precision_is_found():
    assert _codes(_adds(0.0, dtype=np.float64)) == {"CHK304": ("add",)}


def test_foreign_and_twice_named_operators_are_found():
    nodes = [
        helper.make_node("Gelu", ["x"], ["h"], "same", domain="com.microsoft"),
        helper.make_node("Relu", ["h"], ["y"], "same"),
    ]
    found = _codes(_model(nodes, domain="com.microsoft"))
    assert found == {"CHK202": ("com.microsoft::Gelu",), "CHK204": ("same",)}


def test_functions_of_the_model_itself_are_not_foreign():
    assert "CHK202" not in _codes(BUILDERS["with_function"]())


@pytest.mark.parametrize(
    ("count", "large"), [(LARGE_CONSTANT_BYTES // 4, True), (LARGE_CONSTANT_BYTES // 4 - 1, False)]
)
def test_large_constants_inside_nodes_are_found(count, large):
    constant = numpy_helper.from_array(np.ones(count, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["c"], "constant", value=constant),
        helper.make_node("ReduceSum", ["c"], ["s"], "sum"),
        helper.make_node("Add", ["x", "s"], ["y"], "add"),
    ]
    assert _codes(_model(nodes)) == ({"CHK305": ("constant",)} if large else {})


def test_an_output_without_a_rank_is_found():
    model = _adds(0.0)
    model.graph.outputs[0].shape = None
    assert _codes(model) == {"CHK206": ("y",)}


def test_every_code_is_documented_with_its_level():
    text = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
    rows = re.findall(r"^\| (CHK\d{3}) \| (\w+) \| (.+?) \|$", text, re.MULTILINE)
    assert {code: (Level(level), meaning) for code, level, meaning in rows} == dict(RULES)
