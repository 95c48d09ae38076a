"""Relu and Clip as Max and Min."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.clamped import behind, keep_apart
from onnxopt.graph.node_writer import NodeWriter
from tests import builders
from tests.builders import ROWS, F, Net


def clamp_of(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type in ("Relu", "Clip"))


@pytest.mark.parametrize(
    ("op", "bounds", "attributes", "opset", "operators"),
    [
        ("Relu", (), {}, 17, ["Max"]),
        ("Clip", (-0.5, 0.25), {}, 17, ["Max", "Min"]),
        ("Clip", (None, 0.25), {}, 17, ["Min"]),
        ("Clip", (-0.5,), {}, 17, ["Max"]),
        ("Clip", (), {"min": -0.5, "max": 0.25}, 10, ["Max", "Min"]),
        ("Clip", (0.5, -0.5), {}, 17, ["Max", "Min"]),
    ],
)
def test_outputs_stay_the_same(op, bounds, attributes, opset, operators) -> None:
    net = Net(1)
    inputs = ["" if b is None else net.const(np.float32(b)) for b in bounds]
    net.node(op, net.node("Identity", "x"), *inputs, out="y", **attributes)
    model = net.model([ROWS], [("y", F, ["batch", 8])], opset=opset)
    copy = model.clone()
    keep_apart(NodeWriter(copy, "apart"), clamp_of(copy))
    assert [node.op_type for node in copy.graph] == ["Identity", *operators]
    x = {"x": np.array([[-2, -0.5, -0.25, -0.0, 0, 0.2, 0.25, 3]], np.float32)}
    np.testing.assert_array_equal(builders.run(model, x)[0], builders.run(copy, x)[0])


@pytest.mark.parametrize(("bias", "found"), [(0, True), (1, True), (2, False)])
def test_one_bias_may_stand_between(bias: int, found: bool) -> None:
    net = Net(2)
    x = net.node("MatMul", "x", net.weight(8, 8))
    for _ in range(bias):
        x = net.node("Add", x, net.weight(8))
    net.node("Relu", x, out="y")
    model = net.model([ROWS], [("y", F, ["batch", 8])])
    assert (behind(model.graph.node(0)) is not None) == found


def test_a_product_that_is_an_output_too_is_not_merged() -> None:
    net = Net(3)
    net.node("MatMul", "x", net.weight(8, 8), out="z")
    net.node("Relu", "z", out="y")
    model = net.model([ROWS], [("y", F, ["batch", 8]), ("z", F, ["batch", 8])])
    assert behind(model.graph.node(0)) is None
