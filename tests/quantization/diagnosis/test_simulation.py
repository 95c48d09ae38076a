"""Layers as a processor that saturates computes them, against its arithmetic in numpy; and exact elsewhere."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import check, from_proto
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.quantization.affine import LIMITS, quantize
from onnxopt.quantization.diagnosis.simulation import simulate
from onnxopt.quantization.rounding.saturation import reduced
from onnxopt.reconstruction.unfold import Window
from onnxopt.target import TARGETS
from tests import builders, numerics
from tests.quantization.rounding.saturating import multiply

AVX2, ARM, RUNTIME = TARGETS["x86-avx2"], TARGETS["arm64-neon"], Runtime()
SCALE, STEPS = np.float32(0.02), np.float32(0.05)


def quantized(op_type: str, weight: np.ndarray, shape: tuple[int, ...], kind: str, axis: int, **attributes) -> ir.Model:
    """Return one layer between Q/DQ, with a scale per output channel and a zero point inside the range."""
    byte = TensorProto.UINT8 if kind == "uint8" else TensorProto.INT8
    zero = 100 if kind == "uint8" else -28
    channels = weight.shape[axis]
    scales = np.linspace(0.01, 0.02, channels).astype(np.float32)
    constants = [
        numpy_helper.from_array(np.array(SCALE), "sx"),
        helper.make_tensor("zx", byte, [], [zero]),
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(scales, "sw"),
        numpy_helper.from_array(np.zeros(channels, np.int8), "zw"),
        numpy_helper.from_array(np.array(np.float32(900)), "sy"),
        helper.make_tensor("zy", byte, [], [zero]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=axis),
        helper.make_node(op_type, ["xd", "wd"], ["y"], "layer", **attributes),
        helper.make_node("QuantizeLinear", ["y", "sy", "zy"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["z"]),
    ]
    out = [None] * len(shape)
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in (("x", shape), ("z", out))]
    graph = helper.make_graph(nodes, "one", *infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return from_proto(model)


def outputs(model: ir.Model, target, x: np.ndarray) -> tuple[np.ndarray, int]:
    """Return what the layer gives before it is quantized again, and how many of its pairs can saturate."""
    found = simulate(model, target, RUNTIME)
    check(found.model)
    shown = found.model.clone()
    value = next(v for n in shown.graph for v in n.outputs if v.name == "y")
    value.type = ir.TensorType(ir.DataType.FLOAT)
    shown.graph.outputs.append(value)
    return Session(shown, found.runtime).named({"x": x})["y"], found.saturating.get("layer", 0)


def integers(x: np.ndarray, kind: str) -> tuple[np.ndarray, int]:
    zero = 100 if kind == "uint8" else -28
    assert kind in LIMITS
    shift = 0 if kind == "uint8" else 128
    return quantize(x, np.array(SCALE), np.array(zero), kind) + shift, zero + shift


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
@pytest.mark.parametrize("inputs", [32, 33])
def test_products_are_those_of_the_reference(op_type: str, kind: str, inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    weight = rng.integers(-127, 128, (inputs, 6)).astype(np.int8)
    transposed = op_type == "Gemm"
    stored, axis = (weight.T.copy(), 0) if transposed else (weight, 1)
    model = quantized(op_type, stored, (4, inputs), kind, axis, **({"transB": 1} if transposed else {}))
    x = rng.uniform(-2, 4, (4, inputs)).astype(np.float32)
    raw, zero = integers(x, kind)
    sums = multiply(raw, weight.T).astype(np.int64) - zero * weight.astype(np.int64).sum(0)
    expected = sums * np.linspace(0.01, 0.02, 6).astype(np.float32) * SCALE
    found, pairs = outputs(model, AVX2, x)
    exact, none = outputs(model, ARM, x)
    assert pairs > 0 == none
    np.testing.assert_allclose(found, expected, rtol=0, atol=numerics.EXACT_RELATIVE * np.abs(expected).max())
    assert np.abs(found - exact).max() > 1
    plain = (raw - zero) @ weight.astype(np.int64) * np.linspace(0.01, 0.02, 6).astype(np.float32) * SCALE
    np.testing.assert_allclose(exact, plain, rtol=0, atol=numerics.EXACT_RELATIVE * np.abs(plain).max())


@pytest.mark.parametrize(
    ("groups", "attributes"),
    [
        (1, {"pads": [1, 1, 1, 1]}),
        (1, {"strides": [2, 1], "pads": [0, 1, 2, 0]}),
        (2, {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
        (1, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        (1, {"auto_pad": "VALID"}),
    ],
)
def test_convolutions_are_those_of_the_reference(groups: int, attributes: dict) -> None:
    rng = np.random.default_rng(groups)
    weight = rng.integers(-127, 128, (4, 6 // groups, 3, 3)).astype(np.int8)
    model = quantized("Conv", weight, (2, 6, 8, 7), "uint8", 0, group=groups, **attributes)
    node = next(n for n in model.graph if n.name == "layer")
    x = rng.uniform(-2, 4, (2, 6, 8, 7)).astype(np.float32)
    raw, zero = integers(x, "uint8")
    exact, _ = outputs(model, ARM, x)
    found, pairs = outputs(model, AVX2, x)
    assert pairs > 0
    expected = np.zeros_like(exact)
    for group in range(groups):
        some = slice(group * 4 // groups, (group + 1) * 4 // groups)
        part = slice(group * 6 // groups, (group + 1) * 6 // groups)
        rows = reduced(weight[some])
        # What lies outside is the zero point, as the kernel has it.
        windows = windows_of(node, raw[:, part], exact.shape, zero)
        flat = windows.reshape(-1, rows.shape[1])
        sums = multiply(flat, rows).astype(np.int64) - zero * rows.astype(np.int64).sum(1)
        expected[:, some] = np.moveaxis(sums.reshape(*windows.shape[:3], -1), -1, 1)
    expected *= (np.linspace(0.01, 0.02, 4).astype(np.float32) * SCALE).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=numerics.EXACT_RELATIVE * np.abs(expected).max())
    assert np.abs(found - exact).max() > 1


def windows_of(node: ir.Node, raw: np.ndarray, out: tuple[int, ...], zero: int) -> np.ndarray:
    """Return shape (batch, height, width, kernel positions * channels) by walking over the output."""
    window = Window.of(node, (3, 3), transposed=False)
    assert window is not None
    begins = window.pads[:2]
    if window.auto_pad == "SAME_LOWER":
        total = [max((o - 1) * s + 3 - n, 0) for o, s, n in zip(out[2:], window.strides, raw.shape[2:], strict=True)]
        begins = tuple(t - t // 2 for t in total)
    wide = np.full((*raw.shape[:2], 40, 40), zero)
    wide[:, :, 10 : 10 + raw.shape[2], 10 : 10 + raw.shape[3]] = raw
    found = np.zeros((len(raw), *out[2:], 9 * raw.shape[1]), raw.dtype)
    for y, x in np.ndindex(*out[2:]):
        top, left = (10 + p * s - b for p, s, b in zip((y, x), window.strides, begins, strict=True))
        rows, columns = (o + d * np.arange(3) for o, d in zip((top, left), window.dilations, strict=True))
        patch = wide[:, :, rows][:, :, :, columns]
        found[:, y, x] = np.moveaxis(patch, 1, -1).reshape(len(raw), -1)
    return found


def test_dynamic_products_saturate_too() -> None:
    rng = np.random.default_rng(3)
    weight = np.where(rng.random((32, 8)) < 0.5, -1, 1) * rng.uniform(0.8, 1, (32, 8))
    net = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "layer")],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 8])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    model = from_proto(helper.make_model(net, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    made = Pipeline((QuantizeDynamic(reduce_range="no"),)).run(model, Context(TARGETS["x86-vnni"])).model
    safe = Pipeline((QuantizeDynamic(reduce_range="yes"),)).run(model, Context(TARGETS["x86-vnni"])).model
    x = rng.uniform(0, 1, (3, 32)).astype(np.float32)
    exact = x @ weight
    for built, least in ((made, 0.02), (safe, 0.0)):
        there = simulate(built, AVX2, RUNTIME)
        found = Session(there.model, there.runtime).named({"x": x})["y"]
        error = np.abs(found - exact).max() / np.abs(exact).max()
        assert bool(there.saturating) == bool(least)
        assert least <= error < (1 if least else 0.02)


@pytest.mark.parametrize("name", ["residual_cnn", "transformer_17", "lstm"])
def test_a_model_without_int8_is_the_same_everywhere(name: str) -> None:
    model = builders.BUILDERS[name]()
    feeds = builders.feeds_of(model)
    for target in (AVX2, ARM):
        there = simulate(model, target, RUNTIME)
        assert not there.saturating
        for one, other in zip(Session(there.model, RUNTIME).run(feeds), builders.run(model, feeds, True), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("spec", [QuantizeStatic(), QuantizeDynamic(), QuantizeStatic(activation_type="int8")])
@pytest.mark.parametrize(
    "name", ["residual_cnn", "depthwise_separable", "transformer_17", "lstm", "nhwc", "if_branches", "static_batch"]
)
def test_seven_bits_are_the_same_everywhere_and_eight_run(name: str, spec: Pass) -> None:
    model = builders.BUILDERS[name]()
    context = Context(TARGETS["x86-vnni"], builders.samples_of(model))
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    eight, seven = (Pipeline((replace(spec, reduce_range=bits),)).run(model, context).model for bits in ("no", "yes"))
    there = simulate(eight, AVX2, RUNTIME)
    found = Session(there.model, there.runtime).run(feeds)
    assert [np.shape(o) for o in found] == [np.shape(o) for o in builders.run(eight, feeds)]
    safe, here = (simulate(seven, target, RUNTIME) for target in (AVX2, ARM))
    for one, other in zip(*(Session(s.model, s.runtime).run(feeds) for s in (safe, here)), strict=True):
        if isinstance(one, np.ndarray) and one.dtype.kind == "f":
            np.testing.assert_allclose(
                one, other, rtol=0, atol=numerics.EXACT_RELATIVE * max(np.abs(other).max(initial=0), 1e-9)
            )
