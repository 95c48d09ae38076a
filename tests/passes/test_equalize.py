"""Equalization: the same outputs to the last bit, and channels that are closer to each other."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxopt.catalog import parse
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import Net


def equalized(model: ir.Model) -> Optimized:
    return Pipeline(parse("equalize")).run(model, Context(target_of("x86-vnni")))


def uneven(*shape: int, axis: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-6, 6, shape[axis])).reshape(sizes)).astype(np.float32)


def convolutions(kind: str, between: str = "Relu") -> ir.Model:
    """Return Conv - op - Conv whose first layer has channels of very different sizes; with a bias."""
    net = Net(5)
    groups = {"dense": 1, "depthwise": 8, "grouped": 2}[kind]
    first = net.node("Conv", "x", net.const(uneven(8, 3, 3, 3, axis=0, seed=1)), net.weight(8))
    extra: dict[str, Any] = {"kernel_shape": [2, 2]} if "Pool" in between and "Global" not in between else {}
    second = net.const(uneven(8, 8 // groups, 1, 1, axis=0, seed=2))
    net.node("Conv", net.node(between, first, **extra), second, group=groups, out="y")
    return net.model([builders.IMAGE], [("y", TensorProto.FLOAT, ["batch", 8, "h", "w"])], opset=13)


def products(turned: bool) -> ir.Model:
    net = Net(6)
    first = uneven(8, 16, axis=1, seed=3)
    one = net.node("Gemm", "x", net.const(first.T.copy() if turned else first), net.weight(16), transB=int(turned))
    net.node("Gemm", net.node("Relu", one), net.weight(*((4, 16) if turned else (16, 4))), transB=int(turned), out="y")
    return net.model([builders.ROWS], [builders.CLASSES], opset=13)


MODELS = {
    **{
        f"{kind}-{op}": (lambda kind=kind, op=op: convolutions(kind, op))
        for kind in ("dense", "depthwise", "grouped")
        for op in ("Relu", "LeakyRelu", "MaxPool", "AveragePool")
    },
    "gemm": lambda: products(False),
    "gemm-turned": lambda: products(True),
}


def spread(model: ir.Model, op_type: str, turned: bool) -> float:
    """Return how far the largest weights of the first layer's output channels lie apart, in powers of two."""
    node = next(n for n in model.graph if n.op_type == op_type)
    assert node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    weight = node.inputs[1].const_value.numpy()
    sizes = np.abs(weight if op_type == "Conv" or turned else weight.T).reshape(16 if op_type == "Gemm" else 8, -1)
    return float(np.ptp(np.log2(sizes.max(1))))


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_same_to_the_last_bit(name: str) -> None:
    model = MODELS[name]()
    result = equalized(model)
    assert [e.target for e in result.steps[0].edits] == [next(n.name for n in model.graph)]
    feeds = builders.feeds_of(model)
    for before, after in zip(builders.run(model, feeds), builders.run(result.model, feeds), strict=True):
        np.testing.assert_array_equal(before, after)
    op_type = "Gemm" if "gemm" in name else "Conv"
    assert spread(result.model, op_type, "turned" in name) < spread(model, op_type, "turned" in name)


def test_twice_is_once() -> None:
    once = equalized(convolutions("dense")).model
    again = equalized(once).steps[0]
    assert not again.edits
    assert {s.reason for s in again.skipped} >= {"its channels have equal ranges already"}


@pytest.mark.parametrize("between", ["Tanh", "Softplus", "Sigmoid"])
def test_what_does_not_pass_on_a_scale_ends_a_chain(between: str) -> None:
    model = convolutions("dense", between)
    step = equalized(model).steps[0]
    assert not step.edits
    assert any("does not pass on a scale" in s.reason for s in step.skipped)


def test_a_value_that_others_read_ends_a_chain() -> None:
    step = equalized(builders.BUILDERS["residual_cnn"]()).steps[0]
    assert any("Add follows" in s.reason or "read 2 times" in s.reason for s in step.skipped) or not step.edits


def test_quantization_with_one_scale_per_weight_loses_less() -> None:
    """Channels of the first layer differ by up to 2^11, and the layer behind it evens them out again."""
    net, rng = Net(7), np.random.default_rng(7)
    size = np.exp2(rng.integers(-6, 6, 8)).astype(np.float32)[:, None, None, None]
    first = rng.standard_normal((8, 3, 3, 3)).astype(np.float32) * size
    deep = rng.standard_normal((8, 1, 1, 1)).astype(np.float32) / size
    net.node("Conv", net.node("Relu", net.node("Conv", "x", net.const(first))), net.const(deep), group=8, out="y")
    model = net.model([builders.IMAGE], [("y", TensorProto.FLOAT, ["batch", 8, "h", "w"])], opset=13)
    samples = builders.samples_of(model, count=16)
    context = Context(target_of("x86-vnni"), samples)
    feeds = dict(next(iter(samples)))
    expected = builders.run(model, feeds)[0]
    plain, better = (
        builders.run(Pipeline(parse(f"{before}quantize-static{{per_channel=false}}")).run(model, context).model, feeds)
        for before in ("", "equalize,")
    )
    assert numerics.sqnr_db(expected, better[0]) > numerics.sqnr_db(expected, plain[0]) + numerics.INT8_SQNR_DB / 2


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_channel_that_is_not_finite_keeps_its_scale() -> None:
    model = products(False)
    weight = next(v for v in model.graph.initializers.values() if v.shape == ir.Shape([8, 16]))
    assert weight.const_value is not None
    numbers = weight.const_value.numpy().copy()
    numbers[0, 3], numbers[0, 5] = np.inf, np.nan
    weight.const_value = ir.tensor(numbers, name=weight.name)
    result = equalized(model)
    assert result.steps[0].edits
    after = next(v for v in result.model.graph.initializers.values() if v.shape == ir.Shape([8, 16]))
    assert after.const_value is not None
    np.testing.assert_array_equal(after.const_value.numpy()[:, [3, 5]], numbers[:, [3, 5]])
