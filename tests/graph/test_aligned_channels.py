"""Integer convolutions get channels of zeros where the runtime then has a faster kernel; outputs stay equal."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.aligned_channels import align_all, unaligned_convolutions
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.target import detect
from tests import builders
from tests.builders import F
from tests.repairs.quantized import QNet


def qdq(
    channels: int = 3,
    outputs: int = 16,
    window: int = 3,
    *,
    activation: type = np.uint8,
    weight: type = np.int8,
    weight_zero: int = 0,
    group: int = 1,
    quantized: bool = True,
    before: str = "",
) -> ir.Model:
    """Return a convolution in QDQ form, whose output is quantized too or not, and an operator before the integers."""
    net = QNet(5)
    x = {
        "Transpose": lambda: net.node("Transpose", "x", perm=[0, 1, 3, 2]),
        "MaxPool": lambda: net.node("MaxPool", "x", kernel_shape=[1, 1]),
        "Sub": lambda: net.node("Sub", net.const(np.float32(0.5)), "x"),
        "": lambda: "x",
    }[before]()
    x = net.pair(x, 0.05, 7, activation)
    w = net.stored(net.integers(outputs, channels // group, window, window, dtype=weight), "w", weight_zero)
    y = net.node("Relu", net.node("Conv", x, w, pads=[window // 2] * 4, group=group, name="conv"))
    net.node("Identity", net.pair(y, 0.3, 0, activation) if quantized else y, out="y")
    return net.model([("x", F, ["batch", channels, 8, 8])], [("y", F, None)])


def qoperator(weight_zero: int = 0) -> ir.Model:
    net = QNet(6)
    scale, zero = net.const(np.float32(0.05)), net.zero(9, np.uint8)
    q = net.node("QuantizeLinear", "x", scale, zero)
    weight = (net.const(net.integers(16, 3, 3, 3), "w"), net.const(np.float32(0.01)), net.zero(weight_zero, np.int8))
    c = net.node("QLinearConv", q, scale, zero, *weight, scale, zero, pads=[1] * 4, name="conv")
    net.node("DequantizeLinear", c, scale, zero, out="y")
    return net.model([("x", F, ["batch", 3, 8, 8])], [("y", F, None)])


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize(
    "make",
    [qdq, qoperator, lambda: qdq(channels=1), lambda: qdq(channels=6, outputs=24), lambda: qdq(before="Sub")],
)
def test_channels_become_a_multiple_of_four_and_outputs_stay_equal(make) -> None:
    before = make()
    after = before.clone()
    assert align_all(after) == ["conv"]
    conv = next(node for node in after.graph if node.name == "conv")
    weight = conv.inputs[3] if conv.op_type == "QLinearConv" else conv.inputs[1].producer().inputs[0]
    assert weight.const_value.shape.numpy()[1] % 4 == 0
    assert ops(after) - ops(before) == {"Pad": 1}
    assert "w" not in after.graph.initializers
    feeds = builders.feeds_of(before)
    for optimized in (False, True):
        first, second = (builders.run(m, feeds, optimized=optimized) for m in (before, after))
        np.testing.assert_array_equal(first[0], second[0])
    assert align_all(after) == []


@pytest.mark.parametrize(
    "left",
    [
        {"channels": 4},
        {"outputs": 8},  # below the kernel's outputs
        {"window": 7},  # 49 products with zeros
        {"channels": 1, "window": 5},
        {"activation": np.int8},
        {"weight": np.uint8, "weight_zero": 128},
        {"weight_zero": 3},
        {"channels": 6, "group": 2},
        {"quantized": False},  # it runs in float
        {"before": "Transpose"},  # perhaps pixel by pixel
        {"before": "MaxPool"},
    ],
    ids=str,
)
def test_other_convolutions_stay(left: dict) -> None:
    model = qdq(**left)
    before = ops(model)
    assert unaligned_convolutions(model) == []
    assert align_all(model) == []
    assert ops(model) == before


def test_a_weight_with_a_zero_point_stays_in_qoperator_form() -> None:
    assert unaligned_convolutions(qoperator(weight_zero=3)) == []


def test_another_reader_of_the_integers_keeps_them() -> None:
    model = qdq()
    conv = next(node for node in model.graph if node.name == "conv")
    dequantized = conv.inputs[0]
    model.graph.append(ir.node("Neg", [dequantized], outputs=[ir.Value(name="other")]))
    model.graph.outputs.append(model.graph[-1].outputs[0])
    model.graph.outputs[-1].type = ir.TensorType(ir.DataType.FLOAT)
    after = model.clone()
    assert align_all(after) == ["conv"]
    feeds = builders.feeds_of(model)
    for one, other in zip(builders.run(model, feeds), builders.run(after, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(detect().activation_type != "uint8", reason="these kernels are those of x86")
def test_the_runtime_still_computes_on_integers() -> None:
    model = qdq()
    align_all(model)
    assert ops(optimized_model(model, Runtime()))["QLinearConv"] == 1
