"""Products with stored weights: written so that the runtime multiplies with the integers."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.repairs.accuracy_level import AccuracyLevel
from onnxopt.repairs.products import StoredProducts
from onnxopt.repairs.stored_weights import StoredWeights
from tests import builders, numerics
from tests.builders import F
from tests.repairs.quantized import X86, QNet, mended


def _gemm(activation: str = "", transposed: bool = True, op: str = "Gemm", twice: bool = False, **attrs) -> ir.Model:
    net = QNet(4)
    q = net.integers(32, 64) if transposed else net.integers(64, 32)
    weight = net.stored(q, "w", axis=0 if transposed else 1)
    if op == "Gemm":
        x = net.node("Gemm", "x", weight, net.weight(32), transB=int(transposed), name="fc")
    else:
        x = net.node("Add", net.node("MatMul", "x", weight, name="fc"), net.weight(32), name="bias")
    if activation:
        x = net.node(activation, x, name="act", **attrs)
    if twice:
        x = net.node("Add", x, net.node("Gemm", "x", weight, transB=int(transposed)))
    net.node("Gemm", x, net.stored(net.integers(32, 8), "w2", axis=1), net.weight(8), out="y", name="last")
    return net.model([("x", F, ["batch", 64])], [("y", F, None)], opset=21, ir_version=10)


def _kernels(model: ir.Model) -> Counter:
    return Counter(node.op_type for node in optimized_model(model, Runtime()).graph)


@pytest.mark.parametrize("activation", ["", "Relu"])
@pytest.mark.parametrize(("transposed", "op"), [(True, "Gemm"), (False, "Gemm"), (False, "MatMul")])
def test_the_runtime_multiplies_with_the_integers_and_the_function_stays(activation: str, transposed, op: str) -> None:
    model = _gemm(activation, transposed, op)
    result, found = mended(StoredProducts(), model)
    assert bool(found.sites) == (transposed or bool(activation))
    assert _kernels(result)["DequantizeLinear"] == 0
    assert _kernels(result)["MatMulNBits"] == 2
    if found.sites:
        assert _kernels(model)["DequantizeLinear"] == 1
    feeds = builders.feeds_of(model)
    assert numerics.largest_difference(builders.run(model, feeds), builders.run(result, feeds)) == 0


def test_a_clip_is_kept_apart_too() -> None:
    net = QNet(4)
    product = net.node("MatMul", "x", net.stored(net.integers(64, 32), "w", axis=1), name="fc")
    clipped = net.node("Clip", product, *(net.const(np.float32(bound)) for bound in (-1, 1)), name="act")
    net.node("Neg", clipped, out="y")
    model = net.model([("x", F, ["batch", 64])], [("y", F, None)], opset=21, ir_version=10)
    result, found = mended(StoredProducts(), model)
    assert found.where == ("act",)
    assert (_kernels(model)["MatMulNBits"], _kernels(result)["MatMulNBits"]) == (0, 1)
    feeds = builders.feeds_of(model)
    assert numerics.largest_difference(builders.run(model, feeds), builders.run(result, feeds)) == 0


def test_scales_and_zero_points_are_turned_with_their_weight() -> None:
    result, found = mended(StoredProducts(), _gemm())
    assert found.where == ("fc",)
    dequantized = next(node for node in result.graph if node.op_type == "DequantizeLinear")
    assert dequantized.attributes["axis"].as_int() == 1
    assert list(dequantized.inputs[0].const_value.shape) == [64, 32]
    assert "w" not in result.graph.initializers


def test_weights_per_block_are_turned_too() -> None:
    net = QNet(4)
    scale = net.const(net.rng.uniform(0.01, 0.02, (32, 2)).astype(np.float32))
    weight = net.node("DequantizeLinear", net.const(net.integers(32, 64), "w"), scale, axis=1, block_size=32)
    net.node("Gemm", "x", weight, net.weight(32), transB=1, out="y")
    model = net.model([("x", F, ["batch", 64])], [("y", F, None)], opset=21, ir_version=10)
    result, found = mended(StoredProducts(), model)
    assert found.sites
    assert _kernels(result)["MatMulNBits"] == 1


def test_a_weight_that_others_read_too_is_not_turned() -> None:
    found = StoredProducts().find(_gemm(twice=True), X86)
    assert not found.sites
    assert found.left[0].reason == "its weight is read by others too"


def test_float_products_are_no_fault() -> None:
    assert not StoredProducts().find(builders.BUILDERS["gemm_mlp"](), X86).sites


def _nbits(level: int | None) -> ir.Model:
    net = QNet(6)
    q = net.const(net.rng.randint(0, 255, (16, 2, 16)).astype(np.uint8))
    attrs = {} if level is None else {"accuracy_level": level}
    scales = net.const(net.rng.uniform(0.01, 0.02, 32).astype(np.float32))
    net.node(
        "MatMulNBits",
        "x",
        q,
        scales,
        out="y",
        domain="com.microsoft",
        name="fc",
        K=64,
        N=16,
        bits=4,
        block_size=32,
        **attrs,
    )
    return net.model([("x", F, ["batch", 64])], [("y", F, ["batch", 16])], domains=[("com.microsoft", 1)])


@pytest.mark.parametrize("level", [None, 0, 1])
def test_the_accuracy_level_becomes_4(level: int | None) -> None:
    model = _nbits(level)
    result, found = mended(AccuracyLevel(), model)
    assert found.where == ("fc",)
    assert result.graph[0].attributes["accuracy_level"].as_int() == 4
    feeds = builders.feeds_of(model)
    assert numerics.sqnr_db(builders.run(model, feeds)[0], builders.run(result, feeds)[0]) > numerics.INT8_SQNR_DB


def test_level_4_is_no_fault() -> None:
    assert not AccuracyLevel().find(_nbits(4), X86).sites


def _conv(dtype: type = np.int8, zero: int = 0, per_channel: bool = True, most: int = 127) -> ir.Model:
    net = QNet(8)
    weight = net.stored(net.integers(32, 8, 3, 3, dtype=dtype, most=most), "w", zero, per_channel=per_channel)
    net.node("Conv", "x", weight, pads=[1] * 4, out="y", name="conv")
    return net.model([("x", F, ["batch", 8, 8, 8])], [("y", F, None)], opset=21, ir_version=10)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 0), (np.int8, 5), (np.uint8, 128), (np.int16, 0)])
def test_stored_weights_of_convolutions_become_floats_when_the_model_is_loaded(dtype, zero: int, per_channel) -> None:
    model = _conv(dtype, zero, per_channel)
    result, found = mended(StoredWeights(), model)
    assert found.where == ("w",)
    assert _kernels(model)["DequantizeLinear"] == 1
    assert set(_kernels(result)) <= {"Conv", "ReorderInput", "ReorderOutput"}
    assert result.graph.initializers["w"].const_value.dtype.numpy() == np.dtype(dtype)


def test_scales_per_block_stay_with_the_reason() -> None:
    net = QNet(8)
    scale = net.const(net.rng.uniform(0.01, 0.02, (32, 8, 3, 1)).astype(np.float32))
    weight = net.node("DequantizeLinear", net.const(net.integers(32, 8, 3, 3), "w"), scale, axis=3, block_size=3)
    net.node("Conv", "x", weight, pads=[1] * 4, out="y")
    found = StoredWeights().find(
        net.model([("x", F, ["batch", 8, 8, 8])], [("y", F, None)], opset=21, ir_version=10), X86
    )
    assert not found.sites
    assert found.left[0].reason == "it has a scale for each block"


def test_floats_that_are_an_output_stay() -> None:
    net = QNet(8)
    dequantized = net.stored(net.integers(64, 32), "w")
    net.nodes[-1].output[0] = "floats"
    net.node("MatMul", "x", net.node("Transpose", "floats", perm=[1, 0]), out="y")
    model = net.model([("x", F, ["batch", 32])], [("y", F, None), ("floats", F, None)], opset=21, ir_version=10)
    assert dequantized != "floats"
    found = StoredWeights().find(model, X86)
    assert not found.sites
    assert [skip.reason for skip in found.left] == ["its floats are an output of the model"]
