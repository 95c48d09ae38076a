from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxopt.reconstruction.residual import partner_of
from tests import builders

F = TensorProto.FLOAT
RNG = np.random.default_rng(0)
C = 4
SCALE = (RNG.random(C) + 0.5).astype(np.float32)


def image(write: Callable[[builders.Net, str], str], rank: int = 2, size: int = 6) -> ir.Model:
    """Return a convolution `y`, what `write` makes of it, and the Add with its own input as `sum`."""
    net = builders.Net(0)
    shape = ("n", C, *(size,) * rank)
    y = net.node("Conv", "x", net.weight(C, C, *(1,) * rank), out="y")
    net.node("Add", "x", write(net, y), out="sum")
    return net.model([("x", F, shape)], [("sum", F, None)])


def tokens(write: Callable[[builders.Net, str], str]) -> ir.Model:
    net = builders.Net(0)
    y = net.node("MatMul", "x", net.weight(C, C), out="y")
    net.node("Add", write(net, y), "x", out="sum")
    return net.model([("x", F, ["n", "t", C])], [("sum", F, None)])


def per_channel(net: builders.Net, rank: int) -> str:
    return net.const(SCALE.reshape(C, *(1,) * rank))


def norm(net: builders.Net, y: str) -> str:
    mean, shift = net.weight(C), net.weight(C)
    variance = net.const(np.full(C, 0.25, np.float32))
    return net.node("BatchNormalization", y, net.const(SCALE), shift, mean, variance, epsilon=0.0)


@pytest.mark.parametrize(
    ("write", "scale"),
    [
        (lambda net, y: y, np.ones(())),
        (lambda net, y: net.node("Identity", net.node("Add", y, per_channel(net, 2))), np.ones(())),
        (lambda net, y: net.node("Mul", per_channel(net, 2), y), SCALE),
        (lambda net, y: net.node("Mul", y, net.const(np.float32(0.5))), np.array(0.5)),
        (norm, SCALE / 0.5),
        (lambda net, y: net.node("Mul", norm(net, y), per_channel(net, 2)), SCALE**2 / 0.5),
    ],
    ids=["plain", "bias", "scale-per-channel", "scale", "batch-norm", "both"],
)
def test_the_partner_of_a_convolution(write, scale):
    found = partner_of(image(write), "y", C, 1)
    assert found.value == "x"
    assert np.allclose(found.scale, scale)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_scale_runs_along_the_channels_whatever_the_number_of_spatial_axes(rank):
    found = partner_of(image(lambda net, y: net.node("Mul", y, per_channel(net, rank)), rank), "y", C, 1)
    assert np.allclose(found.scale, SCALE)


@pytest.mark.parametrize("shape", [(C,), (C, 1), (1, C, 1)])
def test_a_scale_along_another_axis_of_the_same_size_is_none_of_channels(shape):
    model = image(lambda net, y: net.node("Mul", y, net.const(SCALE.reshape(shape))), 2, size=C)
    assert partner_of(model, "y", C, 1) is None


def test_the_partner_of_a_product():
    scaled = tokens(lambda net, y: net.node("Mul", net.node("Add", y, net.weight(C)), net.const(SCALE)))
    found = partner_of(scaled, "y", C, -1)
    assert found.value == "x"
    assert np.allclose(found.scale, SCALE)
    along_time = tokens(lambda net, y: net.node("Mul", y, net.const(SCALE[:, None])))
    assert partner_of(along_time, "y", C, -1) is None


def used_twice(net: builders.Net, y: str) -> str:
    net.node("Relu", y, out="other")
    return y


@pytest.mark.parametrize(
    "write",
    [
        used_twice,
        lambda net, y: net.node("Relu", y),
        lambda net, y: net.node("Sub", y, per_channel(net, 2)),
        lambda net, y: net.node("Mul", y, "x"),
        lambda net, y: net.node("Mul", y, net.const(np.array([1, 0, 1, 1], np.float32).reshape(C, 1, 1))),
        lambda net, y: net.node("Mul", y, net.const(RNG.random((C, 6, 6)).astype(np.float32))),
    ],
    ids=["another-user", "not-linear", "another-op", "times-activation", "scaled-to-nothing", "scaled-by-position"],
)
def test_no_partner(write):
    assert partner_of(image(write), "y", C, 1) is None


def test_no_partner_where_it_is_an_output_or_unknown():
    net = builders.Net(0)
    net.node("Conv", "x", net.weight(C, C, 1, 1), out="y")
    model = net.model([("x", F, ["n", C, 6, 6])], [("y", F, None)])
    assert partner_of(model, "y", C, 1) is None
    assert partner_of(model, "nothing", C, 1) is None


def test_a_sum_with_itself_is_no_partner():
    net = builders.Net(0)
    y = net.node("Conv", "x", net.weight(C, C, 1, 1), out="y")
    net.node("Add", y, y, out="sum")
    assert partner_of(net.model([("x", F, ["n", C, 6, 6])], [("sum", F, None)]), "y", C, 1) is None
