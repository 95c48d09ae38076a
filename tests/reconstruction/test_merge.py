from collections.abc import Callable
from statistics import fmean

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxopt.graph.channels.cut import cut_channels
from onnxopt.graph.channels.find import Channels, channels_of
from onnxopt.graph.edit import set_weight
from onnxopt.model_file import to_bytes
from onnxopt.reconstruction.merge import merged
from tests import builders, numerics

F = TensorProto.FLOAT
UNITS = 10
Between = Callable[[builders.Net, str], str]


def dense(seed: int, between: Between = lambda net, x: net.node("Relu", x), outputs: int = 4) -> ir.Model:
    net = builders.Net(seed)
    hidden = between(net, net.node("Gemm", "x", net.weight(UNITS, 6, name="w"), net.weight(UNITS, name="b"), transB=1))
    net.node("Gemm", hidden, net.weight(outputs, UNITS), net.weight(outputs), transB=1, out="y")
    return net.model([("x", F, ["batch", 6])], [("y", F, ["batch", outputs])])


def pooled(net: builders.Net, x: str) -> str:
    return net.node("MaxPool", net.node("LeakyRelu", net.bn(x, UNITS), alpha=0.2), kernel_shape=[2, 2], strides=[2, 2])


def convolutional(seed: int, between: Between = pooled, flat: bool = False) -> ir.Model:
    net = builders.Net(seed)
    hidden = between(
        net,
        net.node("Conv", "x", net.weight(UNITS, 3, 3, 3, name="w"), net.weight(UNITS, name="b"), kernel_shape=[3, 3]),
    )
    if flat:
        last = net.node("Flatten", hidden)
        net.node("Gemm", last, net.weight(9 * UNITS, 4), out="y")
    else:
        last = net.conv(hidden, UNITS, 4, k=3)
        net.node("ReduceMean", last, axes=[2, 3], keepdims=0, out="y")
    return net.model([("x", F, ["batch", 3, 8, 8])], [("y", F, ["batch", 4])], opset=13)


def twinned(model: ir.Model) -> ir.Model:
    """Let units 6 to 9 do what the first four do, but larger or smaller."""
    weights = model.graph.initializers
    norms = [n for n in model.graph if n.op_type == "BatchNormalization"]
    statistics = [v.name for node in norms for v in node.inputs[1:5]]
    for name in ("w", "b", *statistics):
        array = weights[name].const_value.numpy().copy()
        factors = np.array([0.5, 2.0, 1.0, 3.0], np.float32).reshape(-1, *(1,) * (array.ndim - 1))
        # Behind a batch norm only its own scale and shift say how large a unit is.
        scaled = name in statistics[:2] if norms else name in ("w", "b")
        array[6:] = array[:4] * (factors if scaled else 1)
        set_weight(weights[name], array)
    return model


def pair_of(model: ir.Model, channels: Channels, kept: dict[str, tuple[int, ...]]) -> tuple[list, list]:
    feeds = builders.feeds_of(model, batch=64)
    return builders.run(model, feeds), builders.run(cut_channels(channels, kept), feeds)


def relative_error(model: ir.Model, channels: Channels, kept: dict[str, tuple[int, ...]]) -> float:
    (one,), (other,) = pair_of(model, channels, kept)
    return float(np.square(one - other).mean() / one.var())


def hidden_of(channels: Channels) -> str:
    return next(g.name for g in channels.groups if g.frozen is None and g.size == UNITS)


@pytest.mark.parametrize(
    "model",
    [
        dense(0),
        dense(1, lambda net, x: x),
        dense(2, lambda net, x: net.node("LeakyRelu", net.node("Identity", x))),
        convolutional(3),
        convolutional(4, flat=True),
        convolutional(5, lambda net, x: net.node("MaxPool", net.node("Relu", x), kernel_shape=[2, 2])),
    ],
    ids=["relu", "linear", "leaky", "norm-leaky-pool", "flatten", "relu-pool"],
)
def test_units_that_repeat_others_are_merged_without_loss(model):
    model = twinned(model)
    before = to_bytes(model)
    channels = channels_of(model)
    kept = {hidden_of(channels): tuple(range(6))}
    changed, notes = merged(channels, kept)
    assert list(notes.values()) == [4]
    assert numerics.largest_difference(*pair_of(model, changed, kept)) < numerics.DEEP_RELATIVE
    assert numerics.largest_difference(*pair_of(model, channels, kept)) > 0.05
    assert to_bytes(model) == before


@pytest.mark.parametrize(("make", "share"), [(dense, 0.75), (convolutional, 0.25)])
def test_less_is_lost_on_random_networks(make, share):
    """Several kept units share in each that goes, so that none need be like it."""
    plain, with_merging = [], []
    for seed in range(12):
        model = make(seed)
        channels = channels_of(model)
        kept = {hidden_of(channels): tuple(range(UNITS // 2))}
        plain.append(relative_error(model, channels, kept))
        with_merging.append(relative_error(model, merged(channels, kept)[0], kept))
    assert fmean(with_merging) < share * fmean(plain)


@pytest.mark.parametrize(
    "between",
    [
        lambda net, x: net.node("Sigmoid", x),
        lambda net, x: net.node("Add", net.node("Relu", x), net.weight(UNITS)),
        lambda net, x: net.node("Mul", net.node("Relu", x), net.node("Sigmoid", x)),
    ],
    ids=["sigmoid", "shift-behind", "gate"],
)
def test_what_is_not_homogeneous_is_left_alone(between):
    channels = channels_of(dense(0, between))
    changed, notes = merged(channels, {hidden_of(channels): tuple(range(5))})
    assert not notes
    assert to_bytes(changed.model) == to_bytes(channels.model)


def test_nothing_removed_is_nothing_merged():
    channels = channels_of(dense(0))
    assert merged(channels, {hidden_of(channels): tuple(range(UNITS))})[1] == {}
    assert merged(channels, {})[1] == {}


def test_dead_units_do_no_harm():
    model = dense(0)
    for name in ("w", "b"):
        array = model.graph.initializers[name].const_value.numpy().copy()
        array[[0, 7, 8]] = 0
        set_weight(model.graph.initializers[name], array)
    channels = channels_of(model)
    kept = {hidden_of(channels): (0, 1, 2, 3, 4, 5, 6, 9)}
    changed, _ = merged(channels, kept)
    assert numerics.largest_difference(*pair_of(model, changed, kept)) < numerics.EXACT_RELATIVE


def test_several_layers_read_the_stand_ins():
    net = builders.Net(0)
    hidden = net.node(
        "Relu", net.node("Gemm", "x", net.weight(UNITS, 6, name="w"), net.weight(UNITS, name="b"), transB=1)
    )
    one = net.node("MatMul", hidden, net.weight(UNITS, 4))
    other = net.node("Gemm", hidden, net.weight(UNITS, 4), alpha=0.5)
    net.node("Add", one, other, out="y")
    model = twinned(net.model([("x", F, ["batch", 6])], [("y", F, ["batch", 4])]))
    channels = channels_of(model)
    kept = {hidden_of(channels): tuple(range(6))}
    changed, notes = merged(channels, kept)
    assert len(notes) == 2
    assert numerics.largest_difference(*pair_of(model, changed, kept)) < numerics.DEEP_RELATIVE


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_builder_model_runs_with_every_other_unit_merged(name):
    model = builders.BUILDERS[name]()
    channels = channels_of(model)
    kept = {g.name: tuple(range(0, g.size, 2)) for g in channels.groups if g.frozen is None}
    changed, notes = merged(channels, kept)
    assert (to_bytes(changed.model) == to_bytes(channels.model)) == (not notes)
    feeds = builders.feeds_of(model, batch=1)
    expected, found = builders.run(model, feeds), builders.run(cut_channels(changed, kept), feeds)
    assert [getattr(f, "shape", None) for f in found] == [getattr(e, "shape", None) for e in expected]
