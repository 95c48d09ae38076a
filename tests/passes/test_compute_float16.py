"""A graph that computes in float16, between inputs and outputs in float32."""

import platform

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxopt import model_file
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.runtime.first_load import CrashError
from onnxopt.passes.float16 import compute_float16
from onnxopt.passes.float16.compute_float16 import ComputeFloat16
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline, Skip, Step
from onnxopt.target import target_of
from tests import builders
from tests.builders import F, Net

HALF = ir.DataType.FLOAT16


def run(model: ir.Model, **options) -> tuple[ir.Model, Step]:
    result = Pipeline((ComputeFloat16(**options),)).run(model, Context(target_of("x86-vnni")))
    return result.model, result.steps[0]


def chain(*, mask: float = 1.0) -> ir.Model:
    """Return two products with a TopK in between, which stays in float32, and a constant that may be huge."""
    net = Net(71)
    hidden = net.node("MatMul", "x", net.weight(16, 32, name="w0"), name="fc0")
    hidden = net.node("Add", hidden, net.const(np.full(32, mask, np.float32)))
    best, _ = net.node("TopK", hidden, net.ints(8), axis=-1, name="best", outs=2)
    net.node("MatMul", best, net.weight(8, 4, name="w1"), out="y", name="fc1")
    return net.model([("x", F, ["batch", 16])], [("y", F, ["batch", 4])], opset=17)


def mlp(scale: float = 0.3) -> ir.Model:
    net = Net(72)
    hidden = net.node("Relu", net.node("MatMul", "x", net.weight(64, 96, name="w0"), name="fc0"))
    hidden = net.node("Add", hidden, net.const(np.float32([scale]), "shift"))
    net.node("MatMul", hidden, net.weight(96, 8, name="w1"), out="y", name="fc1")
    return net.model([("x", F, ["batch", 64])], [("y", F, ["batch", 8])], opset=17)


def test_weights_and_products_are_float16_and_the_signature_stays():
    model = mlp()
    result, step = run(model)
    assert {v.dtype for v in result.graph.initializers.values()} == {HALF}
    assert [v.dtype for v in (*result.graph.inputs, *result.graph.outputs)] == [ir.DataType.FLOAT] * 2
    products = [node for node in result.graph if node.op_type == "MatMul"]
    assert {node.outputs[0].dtype for node in products} == {HALF}
    assert step.edits[0].action == "converted to float16, with 3 weights"
    assert model_file.size_bytes(result) < 0.55 * model_file.size_bytes(model)


def branches() -> ir.Model:
    """Return an If whose bodies have equal names, which the graph around has too, as Optimum merges decoders."""

    def body(scale: float, *, nested: bool) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.full((16, 8), scale, np.float32), "w")
        made = [
            helper.make_node("MatMul", ["x", "w"], ["hidden"], "product"),
            helper.make_node("Relu", ["hidden"], ["y"], "relu"),
        ]
        if nested:
            inner = body(scale, nested=False)
            made = [helper.make_node("If", ["flag"], ["y", "kept"], "inner", then_branch=inner, else_branch=inner)]
            ends, weights = [helper.make_tensor_value_info(name, 1, None) for name in ("y", "kept")], []
        else:
            ends = [helper.make_tensor_value_info(name, 1, None) for name in ("y", "kept")]
            weights = [weight, numpy_helper.from_array(np.full(3, scale, np.float32), "kept")]
        return helper.make_graph(made, "body", [], ends, weights)

    around = helper.make_node(
        "If",
        ["flag"],
        ["y", "kept"],
        "around",
        then_branch=body(0.5, nested=True),
        else_branch=body(-0.5, nested=False),
    )
    inputs = [helper.make_tensor_value_info("x", 1, [2, 16]), helper.make_tensor_value_info("flag", 9, [])]
    ends = [helper.make_tensor_value_info("y", 1, [2, 8]), helper.make_tensor_value_info("kept", 1, [3])]
    graph = helper.make_graph([around], "g", inputs, ends)
    return model_file.from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


@pytest.mark.parametrize("flag", [True, False])
def test_bodies_may_have_the_same_names(flag: bool):
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32), "flag": np.array(flag)}
    before, kept = builders.run(branches(), feeds)
    result, step = run(branches())
    assert step.edits, step.skipped
    bodies = list(result.graph.subgraphs())
    assert {value.dtype for body in bodies for value in body.initializers.values()} == {HALF}
    after, still = builders.run(result, feeds)
    np.testing.assert_allclose(after, before, rtol=1e-2, atol=1e-2)
    np.testing.assert_array_equal(still, kept)


def in_blocks(bits: int, *, inside: bool, between: bool) -> ir.Model:
    """Return a product with weights of a few bits, in both branches of an If or not.

    With `between` it lies (in the first branch) between two multiplications, which CPUs compute in float32.
    """
    rng = np.random.default_rng(bits)
    weights = [numpy_helper.from_array(rng.standard_normal((64, 96)).astype(np.float32) / 8, "w")]
    weights.append(numpy_helper.from_array(np.float32([1.5]), "c"))
    plain = [helper.make_node("MatMul", ["x", "w"], ["y"], "fc")]
    nodes = plain
    if between:
        nodes = [
            helper.make_node("Mul", ["x", "c"], ["scaled"], "before"),
            helper.make_node("MatMul", ["scaled", "w"], ["product"], "fc"),
            helper.make_node("Mul", ["product", "c"], ["y"], "after"),
        ]
    inputs = [helper.make_tensor_value_info("x", 1, ["n", 64])]
    if inside:
        end = helper.make_tensor_value_info("y", 1, None)
        first, other = (helper.make_graph(some, "body", [], [end]) for some in (nodes, plain))
        nodes = [helper.make_node("If", ["flag"], ["y"], "around", then_branch=first, else_branch=other)]
        inputs.append(helper.make_tensor_value_info("flag", 9, []))
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, ["n", 96])], weights)
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    steps = (QuantizeWeights(bits=bits, method="rtn"),)
    return Pipeline(steps).run(model_file.from_proto(proto), Context(target_of("x86-vnni"))).model


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("between", [False, True])
def test_products_in_integers_keep_right_answers(bits: int, inside: bool, between: bool):
    model = in_blocks(bits, inside=inside, between=between)
    feeds = {"x": np.random.default_rng(4).standard_normal((3, 64)).astype(np.float32)}
    feeds |= {"flag": np.array(True)} if inside else {}
    (wanted,) = builders.run(model, feeds)
    result, step = run(model)
    assert step.edits
    for optimized in (False, True):
        (found,) = builders.run(result, feeds, optimized)
        assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_a_product_in_integers_stays_float32_only_where_the_runtime_converts_its_scales():
    alone, step = run(in_blocks(4, inside=True, between=False))
    kinds = {node.inputs[2].dtype for node in alone.graph.all_nodes() if node.op_type == "MatMulNBits"}
    assert kinds == {HALF}
    assert not step.skipped
    if platform.machine() == "x86_64":  # processors that multiply float16 convert nothing
        between, step = run(in_blocks(4, inside=True, between=True))
        kinds = [node.inputs[2].dtype for node in between.graph.all_nodes() if node.op_type == "MatMulNBits"]
        assert sorted(kinds) == [ir.DataType.FLOAT, HALF]
        assert [(s.target, s.reason.split(":")[0]) for s in step.skipped] == [
            ("MatMulNBits", "1 of them stay in float32")
        ]


def test_an_output_that_is_given_twice_stays_so():
    model = mlp()
    model.graph.outputs.append(model.graph.outputs[0])
    result, step = run(model)
    assert step.edits
    assert [v.name for v in result.graph.outputs] == ["y", "y"]
    first, second = builders.run(result, builders.feeds_of(model))
    assert np.array_equal(first, second)


def test_it_computes_as_numpy_does_with_rounded_numbers():
    model = mlp()
    x = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    weights = {name: v.const_value.numpy().astype(np.float16).astype(np.float64) for name, v in
               model.graph.initializers.items()}  # fmt: skip
    hidden = np.maximum(x.astype(np.float16).astype(np.float64) @ weights["w0"], 0) + weights["shift"]
    wanted = hidden @ weights["w1"]
    result, _ = run(model)
    for optimized in (False, True):
        (found,) = builders.run(result, {"x": x}, optimized)
        assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_operators_that_float16_does_not_suit_stay_in_float32_and_are_named():
    result, step = run(chain())
    (top,) = [node for node in result.graph if node.op_type == "TopK"]
    assert top.inputs[0].dtype is ir.DataType.FLOAT
    assert [(s.target, s.reason.split(":")[0]) for s in step.skipped] == [("TopK", "1 of them stay in float32")]


def test_finite_numbers_beyond_float16_become_its_largest_and_no_infinity():
    result, _ = run(chain(mask=-3e38))
    (found,) = builders.run(result, {"x": np.ones((2, 16), np.float32)}, True)
    assert all(np.isfinite(v.const_value.numpy()).all() for v in result.graph.initializers.values())
    assert np.isfinite(found).all()


def test_excluded_nodes_stay_in_float32():
    result, step = run(mlp(), exclude=("fc1",))
    kinds = {node.name: node.outputs[0].dtype for node in result.graph if node.op_type == "MatMul"}
    assert kinds["fc0"] is HALF
    assert kinds["fc1"] is not HALF
    assert ("fc1", "excluded by name") in [(s.target, s.reason) for s in step.skipped]
    with pytest.raises(UsageError, match="ONX102"):
        run(mlp(), exclude=("nowhere",))


def test_constants_of_every_form_are_converted():
    result, step = run(builders.BUILDERS["constant_nodes"]())
    assert step.edits
    assert ir.DataType.FLOAT not in {v.dtype for v in result.graph.initializers.values()}


def test_branches_are_converted_with_the_graph_around_them():
    model = builders.BUILDERS["if_branches"]()
    result, _ = run(model)
    inner = [node for node in result.graph.all_nodes() if node.op_type == "MatMul" and node.graph is not result.graph]
    assert inner
    assert all(node.inputs[1].const_value.dtype is HALF for node in inner)


def test_a_graph_that_the_runtime_refuses_is_left_with_the_reason(monkeypatch):
    def refuse(*_):
        raise ModelError("ONX304", "the model cannot be loaded", why="bad types")

    monkeypatch.setattr(compute_float16, "Session", refuse)
    model = mlp()
    result, step = run(model)
    assert [s.reason for s in step.skipped] == ["the converted graph does not load: bad types"]
    assert model_file.digest(result) == model_file.digest(model)


def moved() -> ir.Model:
    """Return a product between two transposes, on which ONNX Runtime crashes in float16 on x86-64."""
    net = Net(73)
    hidden = net.node("MatMul", net.node("Transpose", "x", perm=[1, 0, 2], name="in"), net.weight(8, 8), name="fc")
    net.node("Transpose", hidden, perm=[1, 0, 2], out="y", name="out")
    return net.model([("x", F, [2, 3, 8])], [("y", F, [2, 3, 8])], opset=17)


def test_transposes_that_crash_the_runtime_stay_in_float32():
    model = moved()
    result, step = run(model)
    assert result.graph.node("fc").outputs[0].dtype is HALF
    feeds = {"x": np.random.default_rng(3).standard_normal((2, 3, 8)).astype(np.float32)}
    (wanted,), (found,) = builders.run(model, feeds), builders.run(result, feeds, True)  # a crash would end the tests
    assert np.abs(found - wanted).max() < 5e-3 * np.abs(wanted).max()
    if platform.machine() == "x86_64":
        assert step.skipped[0] == Skip("Transpose", "2 of them stay in float32: ONNX Runtime crashes on them")


def test_a_graph_that_crashes_the_runtime_in_any_form_is_left(monkeypatch):
    def crash(*_):
        raise CrashError("ONX304", "ONNX Runtime crashes on the model", why="ended by signal 11")

    monkeypatch.setattr(compute_float16, "Session", crash)
    _, step = run(moved())
    assert [s.reason for s in step.skipped] == ["the converted graph does not load: ended by signal 11"]


def test_a_model_too_large_for_the_conversion_is_left(monkeypatch):
    monkeypatch.setattr(compute_float16, "fits_protobuf", lambda _: False)
    _, step = run(mlp())
    assert [s.reason for s in step.skipped] == ["the runtime's conversion takes no model above 1.5 GB"]


@pytest.mark.parametrize(("name", "why"), [("trees_only", "standard set"), ("with_function", "functions")])
def test_models_that_are_left_alone(name, why):
    _, step = run(builders.BUILDERS[name]())
    assert not step.edits
    assert why in step.skipped[0].reason
