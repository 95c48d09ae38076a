"""Weights for processors that saturate: none can, and none loses more precision than it must."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.rounding.saturation import reduced
from onnxopt.quantization.rounding.weight_ranges import safe_ranges
from onnxopt.target import target_of
from tests import builders
from tests.quantization.rounding.saturating import bound

Weights = dict[str, tuple[ir.Node, np.ndarray, np.ndarray]]
"""By layer the node, its integers and its scales."""


def weights(name: str, target: str, options: str = "") -> Weights:
    model = builders.BUILDERS[name]()
    context = Context(target_of(target), builders.samples_of(model, count=4))
    made = Pipeline(parse(f"simplify,quantize-static{options}")).run(model, context).model
    found: Weights = {}
    for node in made.graph:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.inputs[1] is None:
            continue
        dequantize = node.inputs[1].producer()
        if dequantize is None or dequantize.inputs[0] is None or dequantize.inputs[0].const_value is None:
            continue
        assert dequantize.inputs[1] is not None
        assert dequantize.inputs[1].const_value is not None
        integers, scales = dequantize.inputs[0].const_value.numpy(), dequantize.inputs[1].const_value.numpy()
        found[node.name or ""] = node, integers, scales
    assert found
    return found


def rows(node: ir.Node, integers: np.ndarray) -> np.ndarray:
    if node.op_type == "Conv":
        return reduced(integers)
    return integers if node.attributes.get_int("transB", 0) else integers.T


NAMES = ["residual_cnn", "depthwise_separable", "gemm_mlp", "transformer_17"]


@pytest.mark.parametrize("options", ["", "{per_channel=false}"])
@pytest.mark.parametrize("name", NAMES)
def test_no_layer_can_saturate_where_pairs_are_added_in_16_bits(name: str, options: str) -> None:
    for node, integers, _ in weights(name, "x86-avx2", options).values():
        if integers.ndim != 4 or integers.shape[1] > 1:
            assert not bound(rows(node, integers)).saturates, node.name


@pytest.mark.parametrize("name", NAMES)
def test_scales_grow_no_further_than_7_bits_need(name: str) -> None:
    eight, seven = weights(name, "x86-vnni"), weights(name, "x86-vnni", "{reduce_range=yes}")
    grown = 0
    for layer, (_, _, scales) in weights(name, "x86-avx2").items():
        assert (scales >= eight[layer][2] * (1 - 1e-6)).all()
        # 7 bits are -64..63 to the quantizer: a range of 127 steps instead of 254.
        assert (scales <= seven[layer][2] * (1 + 1e-6)).all()
        grown += int((scales > eight[layer][2] * (1 + 1e-6)).sum())
    assert grown


def test_depthwise_convolutions_keep_8_bits() -> None:
    eight, safe = weights("depthwise_separable", "x86-vnni"), weights("depthwise_separable", "x86-avx2")
    np.testing.assert_array_equal(safe["Conv_2"][2], eight["Conv_2"][2])


def test_channels_that_cannot_saturate_keep_8_bits() -> None:
    net = builders.Net(0)
    mild = np.tile(np.array([1, 0.01], np.float32), (2, 4))
    mild[1] = 1  # neighbours of full size
    net.node("Gemm", "x", net.const(mild, "w"), transB=1, out="y", name="layer")
    model = net.model([("x", builders.F, ["batch", 8])], [("y", builders.F, ["batch", 2])])
    (first, second) = safe_ranges(model, ("Gemm",), (), True)["w"]
    assert first["rmax"] == pytest.approx(1.01)
    assert second["rmax"] == pytest.approx(2)
    assert safe_ranges(model, ("Gemm",), ("layer",), True) == {}


def test_rows_that_are_columns_to_another_layer_are_safe_in_both() -> None:
    net = builders.Net(0)
    array = np.random.RandomState(0).normal(size=(4, 6)).astype(np.float32)
    net.node("Gemm", "x", net.const(array, "w"), transB=1, out="h", name="rows")
    net.node("MatMul", "h", "w", out="y", name="columns")
    model = net.model([("x", builders.F, ["batch", 6])], [("y", builders.F, ["batch", 6])])
    scales = np.array([ends["rmax"] for ends in safe_ranges(model, ("Gemm", "MatMul"), (), True)["w"]]) / 127
    stored = np.rint(array / scales[:, None]).astype(np.int8)
    assert not bound(stored).saturates
    assert not bound(stored.T).saturates


def test_neighbours_of_one_channel_may_both_be_large() -> None:
    # The runtime reduces all channels of a place before it moves on.
    array = np.zeros((1, 2, 1, 2), np.float32)
    array[0, 0] = 1
    net = builders.Net(0)
    net.node("Conv", "x", net.const(array, "w"), out="y", name="layer")
    model = net.model([("x", builders.F, [1, 2, 4, 4])], [("y", builders.F, [1, 1, 4, 3])])
    assert safe_ranges(model, ("Conv",), (), True) == {}


@pytest.mark.parametrize("channels", [2, 3, 4, 5, 8])
def test_windows_are_safe_with_zeros_up_to_four_channels_too(channels: int) -> None:
    array = np.random.RandomState(1).normal(size=(6, channels, 3, 3)).astype(np.float32)
    net = builders.Net(0)
    net.node("Conv", "x", net.const(array, "w"), out="y", name="layer")
    model = net.model([("x", builders.F, [1, channels, 8, 8])], [("y", builders.F, [1, 6, 6, 6])])
    ranges = safe_ranges(model, ("Conv",), (), True)["w"]
    scales = np.array([ends["rmax"] for ends in ranges]).reshape(-1, 1, 1, 1) / 127
    stored = np.rint(array / scales).astype(np.int8)
    wide = np.pad(stored, ((0, 0), (0, -channels % 4), (0, 0), (0, 0)))
    for each in (stored, wide):
        assert not bound(reduced(each)).saturates


def test_a_set_of_processors_gets_weights_that_are_safe_on_all() -> None:
    alone, both = weights("residual_cnn", "x86-avx2"), weights("residual_cnn", "x86-avx2,arm64")
    for layer, (_, integers, scales) in both.items():
        np.testing.assert_array_equal(integers, alone[layer][1])
        np.testing.assert_array_equal(scales, alone[layer][2])
