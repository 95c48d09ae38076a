"""Smoothing: the same outputs to the last bit, and less noise once quantized where channels differ much."""

from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.measure.fidelity import fidelity
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization.equalization.smoothing import Smoothable, smooth
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders

WIDTH = 8


def applied(model: ir.Model, spec: str) -> tuple[Optimized, Samples]:
    samples = builders.samples_of(model, count=32)
    return Pipeline(parse(spec)).run(model, Context(target_of("x86-vnni"), samples)), samples


def with_outliers(kind: str, residual: bool = False) -> ir.Model:
    """Return a product that reads an activation of which one channel is a hundred times larger."""
    net = builders.Net(5)
    scales = np.ones(WIDTH, np.float32)
    scales[3] = 100
    small = (net.rng.standard_normal((WIDTH, WIDTH)) / 3).astype(np.float32)
    small[3] /= 100  # the product makes up for it: all channels matter
    if kind == "norm":
        x = net.node("LayerNormalization", "x", net.const(scales), net.const(scales / 10), axis=-1)
    elif kind == "mul-add":
        x = net.node("Add", net.node("Mul", net.const(scales), "x"), net.const(scales / 10))
    elif kind == "gemm":
        weights = (net.rng.standard_normal((WIDTH, WIDTH)) * scales).astype(np.float32)
        x = net.node("Relu", net.node("Gemm", "x", net.const(weights), net.const(scales)))
    else:
        weights = (net.rng.standard_normal((WIDTH, WIDTH)) * scales).astype(np.float32)
        x = net.node("MatMul", "x", net.const(weights))
    first = net.node("MatMul", x, net.const(small), name="reader_0")
    second = net.node("MatMul", x, net.const(small[:, ::-1].copy()), name="reader_1")
    total = net.node("Add", first, second)
    net.node("Add", total, x if residual else first, out="y")
    return net.model([("x", builders.F, ["batch", WIDTH])], [("y", builders.F, ["batch", WIDTH])], opset=17)


@pytest.mark.parametrize("kind", ["norm", "mul-add", "gemm", "matmul"])
def test_outputs_stay_and_quantization_loses_less(kind: str) -> None:
    model = with_outliers(kind)
    smoothed, samples = applied(model, "smooth-quant{alpha=0.5}")
    assert {e.target for e in smoothed.steps[0].edits} >= {"reader_0", "reader_1"}
    feeds = builders.feeds_of(model, batch=3)
    (before,), (after,) = builders.run(model, feeds, False), builders.run(smoothed.model, feeds, False)
    np.testing.assert_array_equal(before, after)
    plain, _ = applied(model, "quantize-static{per_channel=false}")
    both, _ = applied(model, "smooth-quant,quantize-static{per_channel=false}")
    noise = [fidelity(model, made.model, samples, Runtime()).outputs[0].sqnr_db for made in (plain, both)]
    assert noise[1] > noise[0] + 6


def test_what_a_residual_reads_too_is_left_alone() -> None:
    model = with_outliers("norm", residual=True)
    result, _ = applied(model, "smooth-quant")
    assert result.steps[0].edits == ()
    assert {s.target: s.reason for s in result.steps[0].skipped} == {
        "reader_0": "its input is read by Add too, which takes no scale",
        "reader_1": "its input is read by Add too, which takes no scale",
    }


def test_what_nothing_can_scale_is_reported() -> None:
    result, _ = applied(builders.BUILDERS["transformer_17"](), "smooth-quant")
    reasons = {s.target: s.reason for s in result.steps[0].skipped}
    assert reasons["MatMul_0"] == "its input is read by Add too, which takes no scale"
    assert reasons["MatMul_18"] == "Reshape before it takes no scale"


def test_alpha_one_moves_everything_to_the_weights() -> None:
    model = with_outliers("norm")
    result, _ = applied(model, "smooth-quant{alpha=1}")
    norm = next(n for n in result.model.graph if n.op_type == "LayerNormalization")
    assert norm.inputs[1] is not None
    assert norm.inputs[1].const_value is not None
    scales = np.abs(norm.inputs[1].const_value.numpy())
    assert scales.max() / scales.min() < 4


def test_a_channel_that_is_not_finite_keeps_its_scale() -> None:
    writer, reader = (SimpleNamespace(array=np.ones((4, 4), np.float32), axis=0, scale=lambda by: None) for _ in "wr")
    found = Smoothable(None, (writer,), (reader,))
    with np.errstate(invalid="raise"):
        exponents = smooth(found, np.array([np.inf, np.nan, 4.0, 64.0]), 1.0)
    assert exponents[:2].tolist() == [0, 0]
    assert exponents[3] - exponents[2] == 4
