"""Operators that the runtime's quantizers write wrongly or give up at: those stay in float, all else is INT8."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxopt.catalog import parse
from onnxopt.model_file import signature_of, to_bytes
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.samples import Samples
from onnxopt.samples.open import open_samples
from onnxopt.target import detect
from tests import builders, numerics
from tests.builders import IMAGE, ROWS, TOKENS, F, Net

SPECS = ("quantize-static", "quantize-static{form=qoperator}", "quantize-dynamic")


def ran(model: ir.Model, spec: str, samples: Samples | None = None) -> Optimized:
    """Return what the pass made; it runs and is close to `model`."""
    samples = samples or builders.samples_of(model)
    result = Pipeline(parse(spec)).run(model, Context(detect(), samples))
    pairs = [[builders.run(m, dict(f))[0] for f in samples.with_batch_size(1)] for m in (model, result.model)]
    before, after = (np.concatenate([a.ravel() for a in arrays]) for arrays in pairs)
    assert numerics.sqnr_db(before, after) > numerics.INT8_SQNR_DB
    return result


def left(result: Optimized) -> dict[str, str]:
    return {s.target: s.reason for s in result.steps[0].skipped}


def done(result: Optimized) -> set[str]:
    return {e.target for e in result.steps[0].edits}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", [(8,), (2, 8, 6), (1, 3, 8, 6)], ids=str)
def test_a_product_with_weights_of_any_rank(spec: str, shape: tuple[int, ...]) -> None:
    net = Net(1)
    first = net.node("Relu", net.node("MatMul", "x", net.weight(8, 8), name="first"))
    rows = net.node("Unsqueeze", first, net.ints(1)) if len(shape) == 3 else first
    net.node("MatMul", rows, net.weight(*shape), name="odd", out="y")
    result = ran(net.model([ROWS], [("y", F, None)], opset=13), spec)
    assert "first" in done(result)
    if spec != "quantize-static":
        assert "axes" in left(result)["odd"]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("order", [0, 1])
def test_a_weight_of_conv_and_convtranspose(spec: str, order: int) -> None:
    net = Net(2)
    weight = net.const((net.rng.standard_normal((6, 6, 3, 3)) * 4.0 ** -np.arange(6)[:, None, None, None]).astype("f4"))
    x = net.conv("x", 3, 6)
    for op in ("Conv", "ConvTranspose")[:: 1 if order else -1]:
        x = net.node(op, x, weight, pads=[1] * 4, kernel_shape=[3, 3], name=op)
    net.node("Relu", x, out="y")
    ran(net.model([IMAGE], [("y", F, None)], opset=13), spec)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mode", ["cubic", "linear", "nearest"])
def test_resize_in_every_mode(spec: str, mode: str) -> None:
    net = Net(3)
    x = net.node("Relu", net.conv("x", 3, 4, name="conv"))
    y = net.node("Resize", x, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode=mode, name="resize")
    net.node("Relu", y, out="y")
    result = ran(net.model([IMAGE], [("y", F, None)], opset=14), spec)
    if spec != "quantize-dynamic":
        assert "conv" in done(result)
    if mode == "cubic" and "qoperator" in spec:
        assert result.steps[0].edits
        assert not any(n.op_type == "QLinearResize" for n in result.model.graph)


@pytest.mark.parametrize("spec", SPECS[:2])
def test_one_convtranspose_in_groups_costs_that_one_only(spec: str) -> None:
    net = Net(4)
    x = net.node("Relu", net.conv("x", 3, 8, name="before"))
    x = net.node("ConvTranspose", x, net.weight(8, 2, 2, 2), net.weight(8), group=4, strides=[2, 2], name="grouped")
    net.node("Relu", net.conv(x, 8, 4, name="behind"), out="y")
    result = ran(net.model([IMAGE], [("y", F, None)], opset=13), spec)
    assert {"before", "behind"} <= done(result)
    assert "groups" in left(result)["grouped"]


@pytest.mark.parametrize("spec", SPECS[:2])
def test_a_convolution_with_a_computed_bias(spec: str) -> None:
    net = Net(5)
    first = net.conv("x", 3, 8, name="first")
    bias = net.node("ReduceMean", "x", axes=[0, 2, 3], keepdims=0)
    bias = net.node("Concat", bias, bias, net.const(np.zeros(2, np.float32)), axis=0)
    net.node("Conv", first, net.weight(8, 8, 3, 3), bias, pads=[1] * 4, kernel_shape=[3, 3], name="odd", out="y")
    result = ran(net.model([IMAGE], [("y", F, None)], opset=13), spec)
    assert "first" in done(result)
    if "qoperator" in spec:
        assert left(result)["odd"] == "its bias is computed"


@pytest.mark.parametrize("spec", SPECS)
def test_an_empty_past_has_no_range(spec: str) -> None:
    net = Net(6)
    now = net.node("MatMul", "x", net.weight(8, 8), name="first")
    both = net.node("Concat", "past", now, axis=1, name="joined")
    net.node("MatMul", both, net.weight(8, 4), name="last", out="y")
    past = ("past", F, ["batch", "before", 8])
    model = net.model([TOKENS, past], [("y", F, None)], opset=14)
    rng = np.random.RandomState(0)
    arrays = {"x": rng.standard_normal((8, 5, 8)).astype("f4"), "past": np.zeros((8, 0, 8), np.float32)}
    result = ran(model, spec, open_samples(arrays, signature_of(model)))
    assert "first" in done(result)
    if spec != "quantize-dynamic":
        assert "no sample gives past" in left(result)["joined"]


def test_a_recurrent_layer_inside_an_if_runs_and_is_smaller() -> None:
    branches = []
    for seed in (1, 2):
        inner = Net(seed, f"branch{seed}_")
        weights = (inner.weight(1, 128, 8), inner.weight(1, 128, 32))
        inner.nodes.append(
            helper.make_node("LSTM", ["turned", *weights], [f"out{seed}"], name=f"lstm{seed}", hidden_size=32)
        )
        result = helper.make_tensor_value_info(f"out{seed}", F, None)
        branches.append(helper.make_graph(inner.nodes, f"branch_{seed}", [], [result], inner.weights))
    outer = Net(3)
    outer.node("Transpose", "x", perm=[1, 0, 2], out="turned")
    test = outer.node("Greater", outer.node("ReduceSum", "x", keepdims=0), outer.const(np.float32(0)))
    outer.node("If", test, out="y", name="either", then_branch=branches[0], else_branch=branches[1])
    model = outer.model([TOKENS], [("y", F, None)], opset=13)
    result = ran(model, "quantize-dynamic")
    assert done(result) == {"either"}
    assert [n.domain for n in result.model.graph.all_nodes() if "LSTM" in n.op_type] == ["com.microsoft"] * 2
    assert len(to_bytes(result.model)) < 0.5 * len(to_bytes(model))


def sharing_branches(ifs: int) -> ir.Model:
    """Return a model whose LSTM layers, two in each If, all reorder the gates of the same two weights."""
    outer = Net(5)
    weights = {"w": outer.weight(128, 8), "r": outer.weight(128, 32)}
    last, turned = outer.ints(0), outer.node("Transpose", "x", perm=[1, 0, 2])
    test = outer.node("Greater", outer.node("ReduceSum", "x", keepdims=0), outer.const(np.float32(0)))
    results = []
    for number in range(2 * ifs):
        inner = Net(number, f"branch{number}_")
        made = []
        for weight in weights.values():
            gates = [
                inner.node("Slice", weight, inner.ints(32 * i), inner.ints(32 * i + 32), last) for i in (0, 2, 1, 3)
            ]
            made.append(inner.node("Unsqueeze", inner.node("Concat", *gates, axis=0), last))
        out = helper.make_tensor_value_info(f"out{number}", F, None)
        inner.nodes.append(helper.make_node("LSTM", [turned, *made], [out.name], hidden_size=32))
        results.append(helper.make_graph(inner.nodes, f"branch_{number}", [], [out], inner.weights))
    made = [
        outer.node("If", test, name=f"if_{i}", then_branch=results[2 * i], else_branch=results[2 * i + 1])
        for i in range(ifs)
    ]
    outer.node("Sum", *made, out="y")
    return outer.model([TOKENS], [("y", F, None)], opset=13)


def test_a_recurrent_layer_inside_an_if_whose_weights_are_computed_is_smaller() -> None:
    model = sharing_branches(1)
    result = ran(model, "quantize-dynamic")
    assert done(result) == {"if_0"}
    assert len(to_bytes(result.model)) < 0.7 * len(to_bytes(model))


def test_branches_that_share_a_weight_stay_in_float_where_their_copies_would_be_larger() -> None:
    model = sharing_branches(4)
    result = ran(model, "quantize-dynamic")
    assert not done(result)
    assert len(to_bytes(result.model)) <= len(to_bytes(model))
