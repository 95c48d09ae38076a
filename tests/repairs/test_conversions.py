"""Dynamic convolutions, and conversions that no kernel on integers reads."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.repairs.dynamic_convolutions import DynamicConvolutions
from onnxopt.repairs.float_pairs import FloatPairs
from tests import builders, numerics
from tests.builders import F
from tests.repairs.quantized import X86, QNet, mended


def _dynamic(zero: int = 0, per_channel: bool = False, output: bool = False, product: str = "Mul") -> ir.Model:
    net = QNet(9)
    q, scale, zero_x = net.node("DynamicQuantizeLinear", "x", outs=3)
    weight = net.const(net.integers(8, 4, 3, 3), "w")
    sums = net.node(
        "ConvInteger", q, weight, zero_x, net.zero(zero, np.int8), name="conv", pads=[1] * 4, strides=[2, 2]
    )
    scales = net.rng.uniform(0.01, 0.02, (1, 8, 1, 1) if per_channel else ()).astype(np.float32)
    factor = net.node(product, scale, net.const(scales))
    y = net.node("Mul", net.node("Cast", sums, to=F), factor)
    net.node("Relu", net.node("Add", y, net.weight(8, 1, 1)), out="y")
    outputs = [("y", F, None), *([(sums, 6, None)] if output else [])]
    return net.model([("x", F, ["batch", 4, 8, 8])], outputs)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("zero", [0, 7])
def test_dynamic_convolutions_become_float_and_round_no_inputs(zero: int, per_channel: bool) -> None:
    model = _dynamic(zero, per_channel)
    result, found = mended(DynamicConvolutions(), model)
    assert found.where == ("conv",)
    kinds = Counter(node.op_type for node in result.graph)
    assert not kinds.keys() & {"ConvInteger", "DynamicQuantizeLinear"}
    assert result.graph.initializers["w"].const_value.dtype is ir.DataType.INT8
    feeds = builders.feeds_of(model)
    step = np.ptp(np.append(feeds["x"], 0)) / 255
    sums = np.abs(model.graph.initializers["w"].const_value.numpy().astype(np.int64) - zero).sum((1, 2, 3)).max()
    moved = np.abs(builders.run(model, feeds)[0] - builders.run(result, feeds)[0]).max()
    assert 0 < moved <= 0.5 * step * 0.02 * sums
    assert "DequantizeLinear" not in {n.op_type for n in optimized_model(result, Runtime()).graph}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"output": True}, "its output is not scaled as a whole"),
        ({"product": "Add"}, "its scale is not the product of two"),
    ],
)
def test_convolutions_in_other_forms_stay_with_the_reason(options: dict, reason: str) -> None:
    found = DynamicConvolutions().find(_dynamic(**options), X86)
    assert not found.sites
    assert found.left[0].reason == reason


def _pair(before: str = "Erf", zero: int = -100, shared: bool = False, scale: float = 0.01) -> ir.Model:
    net = QNet(10)
    x = net.node(before, "x")
    y = net.pair(x, scale, zero)
    if shared:
        net.node("Cast", net.nodes[-2].output[0], to=F, out="z")
    net.node("Cos", y, out="y")
    return net.model([("x", F, ["batch", 64])], [("y", F, None), *([("z", F, None)] if shared else [])])


def test_a_pair_between_float_operators_leaves_its_limits_behind() -> None:
    model = _pair()  # from -0.28 to 2.27
    result, found = mended(FloatPairs(), model)
    assert len(found.sites) == 1
    assert [node.op_type for node in result.graph] == ["Erf", "Clip", "Cos"]
    low, high = (float(v.const_value.numpy()) for v in result.graph[1].inputs[1:])
    assert (low, high) == pytest.approx((-0.28, 2.27))
    feeds = builders.feeds_of(model)
    moved = np.abs(builders.run(model, feeds)[0] - builders.run(result, feeds)[0]).max()
    assert moved <= 0.5 * 0.01 * (1 + numerics.ROUNDING_SLACK)


def test_values_outside_the_range_stay_cut_off() -> None:
    model = _pair("Exp", zero=-128, scale=0.001)  # everything above 0.255 is cut off
    result, _ = mended(FloatPairs(), model)
    feeds = {"x": np.full((1, 64), 5, np.float32)}
    np.testing.assert_allclose(builders.run(result, feeds)[0], builders.run(model, feeds)[0], atol=0.0005)


def test_no_limits_are_left_where_values_never_reach_them() -> None:
    result, _ = mended(FloatPairs(), _pair("Sigmoid", zero=-128))
    assert [node.op_type for node in result.graph] == ["Sigmoid", "Cos"]
    result, _ = mended(FloatPairs(), _pair("Sigmoid", zero=-128, scale=0.003))
    assert [node.op_type for node in result.graph] == ["Sigmoid", "Clip", "Cos"]


def test_a_pair_whose_integers_others_read_stays() -> None:
    assert not FloatPairs().find(_pair(shared=True), X86).sites


def test_pairs_that_the_runtime_fuses_are_no_fault() -> None:
    net = QNet(11)
    weight = net.stored(net.integers(16, 16, 3, 3), "w", per_channel=False)
    around = {"scale": 0.05, "zero": 128, "dtype": np.uint8}
    x = net.pair(net.node("Conv", net.pair("x", **around), weight, pads=[1] * 4), **around)
    net.node("Identity", x, out="y")
    model = net.model([("x", F, ["batch", 16, 8, 8])], [("y", F, None)])
    assert not FloatPairs().find(model, X86).sites


def test_another_scale_behind_a_pair_is_seen() -> None:
    net = QNet(12)
    q = net.node("QuantizeLinear", net.node("Erf", "x"), net.const(np.float32(0.01)), net.zero(0, np.int8))
    x = net.node("DequantizeLinear", q, net.const(np.float32(0.02)), net.zero(0, np.int8))
    net.node("Cos", x, out="y")
    found = FloatPairs().find(net.model([("x", F, ["batch", 64])], [("y", F, None)]), X86)
    assert not found.sites
    assert found.left[0].reason == "it is read with another scale"
