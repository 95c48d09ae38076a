"""Bias absorption: nothing changes on values above the floor, and ranges get smaller."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxopt.catalog import parse
from onnxopt.model_file import signature_of
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.samples import open_samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import Net

LIFT = np.array([0, 40, 0, 90, 0, 0, 20, 0], np.float32)


def convolutions(padded: bool = False, bias: bool = True) -> ir.Model:
    """Return Conv - Relu - Conv in which three channels never come near zero."""
    net = Net(5)
    hidden = net.node("Relu", net.node("Conv", "x", net.weight(8, 3, 3, 3), net.const(LIFT)))
    own = [net.weight(4)] if bias else []
    pads = {"pads": [1, 1, 1, 1]} if padded else {}
    net.node("Conv", hidden, net.weight(4, 8, 3, 3), *own, out="y", **pads)
    return net.model([builders.IMAGE], [("y", TensorProto.FLOAT, ["batch", 4, "h", "w"])], opset=13)


def products(turned: bool) -> ir.Model:
    net = Net(6)
    first, second = ((8, 8), (4, 8)) if turned else ((8, 8), (8, 4))
    one = net.node("Gemm", "x", net.weight(*first), net.const(LIFT), transB=int(turned))
    net.node("Gemm", net.node("Relu", one), net.weight(*second), net.weight(4), transB=int(turned), out="y")
    return net.model([builders.ROWS], [builders.CLASSES], opset=13)


def done(model: ir.Model) -> tuple[Optimized, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shape = (32, 8) if len(model.graph.inputs[0].shape or ()) == 2 else (32, 3, 8, 8)
    x = {model.graph.inputs[0].name or "": rng.normal(size=shape).astype(np.float32)}
    samples = open_samples(x, signature_of(model))
    return Pipeline(parse("absorb-biases")).run(model, Context(target_of("x86-vnni"), samples)), x


@pytest.mark.parametrize(
    "model", [convolutions(), convolutions(bias=False), products(False), products(True)], ids=["conv", "bare", "g", "t"]
)
def test_outputs_stay_and_the_hidden_range_shrinks(model: ir.Model) -> None:
    result, x = done(model)
    (edit,) = result.steps[0].edits
    assert edit.action.startswith("3 of 8 channels shifted")
    (expected,), (found,) = builders.run(model, x), builders.run(result.model, x)
    # One value in 740 is clipped by little: far less than what INT8 loses.
    assert numerics.sqnr_db(expected, found) > 2 * numerics.INT8_SQNR_DB
    before, after = (m.graph.node(0).inputs[2].const_value.numpy() for m in (model, result.model))
    assert (after[LIFT > 0] < 0.6 * before[LIFT > 0]).all()
    np.testing.assert_array_equal(after[LIFT == 0], before[LIFT == 0])


def test_less_noise_in_int8() -> None:
    model = products(False)
    result, x = done(model)
    samples = open_samples(x, signature_of(model))
    (expected,) = builders.run(model, x)
    found = []
    for start in (model, result.model):
        quantized = Pipeline(parse("quantize-static")).run(start, Context(target_of("x86-vnni"), samples)).model
        found.append(numerics.sqnr_db(expected, builders.run(quantized, x)[0]))
    assert found[1] > found[0] + 3


def test_zeros_around_an_image_have_nothing_to_give_back() -> None:
    model = convolutions(padded=True)
    result, _ = done(model)
    assert not result.steps[0].edits
    assert any("pads with zeros" in skip.reason for skip in result.steps[0].skipped)


def test_channels_that_come_near_zero_stay() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    result = Pipeline(parse("absorb-biases")).run(model, Context(target_of("x86-vnni"), builders.samples_of(model)))
    assert not result.steps[0].edits
    assert result.steps[0].skipped
