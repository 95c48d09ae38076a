"""Conv - OP - Conv over the whole table of operators: removing channels is the same as masking them."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.graph.channels.find import groups_of
from tests import builders, numerics
from tests.builders import F, Net
from tests.graph.channels.channel_graphs import cut, masked

C, SIDE = 12, 8
Op = Callable[[Net, str], tuple[str, int]]
"""Nodes after twelve channels of 8x8; returns the value and how many channels a convolution finds in it."""

UNARY = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "HardSwish",
    "Softplus",
    "LeakyRelu",
    "Elu",
    "Abs",
    "Neg",
    "Identity",
    "Ceil",
)


def _residual(net: Net, x: str) -> tuple[str, int]:
    return net.node("Add", net.bn(net.conv(net.node("Relu", x), C, C), C), x), C


def _gate(net: Net, x: str) -> tuple[str, int]:
    squeezed = net.conv(net.node("GlobalAveragePool", x), C, 4, k=1)
    return net.node("Mul", x, net.node("Sigmoid", net.conv(net.node("Relu", squeezed), 4, C, k=1))), C


def _split(net: Net, x: str) -> tuple[str, int]:
    a, b = net.node("Split", x, net.ints(5, 7), outs=2, axis=1)
    return net.node("Concat", net.node("Relu", b), a, axis=1), C


def _halves(net: Net, x: str) -> tuple[str, int]:
    a, b = net.node("Split", x, outs=2, axis=1)
    return net.node("Mul", a, net.node("Sigmoid", b)), C // 2


def _slice(net: Net, x: str) -> tuple[str, int]:
    part = net.node("Slice", x, net.ints(2, 0), net.ints(-3, SIDE), net.ints(1, 2))
    return part, C - 5


def _dense(net: Net, x: str) -> tuple[str, int]:
    one = net.node("Concat", x, net.conv(net.node("Relu", x), C, 4), axis=1)
    return net.node("Concat", one, net.conv(one, C + 4, 4), axis=1), C + 8


def _shuffle(net: Net, x: str) -> tuple[str, int]:
    wide = net.node("Reshape", x, net.ints(0, 2, C // 2, SIDE, SIDE))
    turned = net.node("Transpose", wide, perm=[0, 2, 1, 3, 4])
    return net.node("Reshape", turned, net.ints(-1, C, SIDE, SIDE)), C


def _pixel_shuffle(net: Net, x: str) -> tuple[str, int]:
    wide = net.node("Reshape", x, net.ints(0, C // 4, 2, 2, SIDE, SIDE))
    turned = net.node("Transpose", wide, perm=[0, 1, 4, 2, 5, 3])
    return net.node("Reshape", turned, net.ints(0, C // 4, 2 * SIDE, 2 * SIDE)), C // 4


def _computed_reshape(net: Net, x: str) -> tuple[str, int]:
    shape = net.node("Shape", x)
    sizes = [net.node("Gather", shape, net.ints(i), axis=0) for i in range(4)]
    flat = net.node("Reshape", x, net.node("Concat", *sizes[:2], net.ints(-1), axis=0))
    return net.node("Reshape", net.node("Relu", flat), net.node("Concat", *sizes, axis=0)), C


def _attention(net: Net, x: str) -> tuple[str, int]:
    rows = net.node("Transpose", net.node("Reshape", x, net.ints(0, C, -1)), perm=[0, 2, 1])
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        dense = net.node("Add", net.node("MatMul", rows, net.weight(C, 8)), net.weight(8))
        heads.append(net.node("Transpose", net.node("Reshape", dense, net.ints(0, 0, 4, 2)), perm=perm))
    mixed = net.node("MatMul", net.node("Softmax", net.node("MatMul", *heads[:2]), axis=-1), heads[2])
    joined = net.node("Reshape", net.node("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(0, 0, 8))
    image = net.node("Transpose", net.node("MatMul", joined, net.weight(8, 10)), perm=[0, 2, 1])
    return net.node("Reshape", image, net.ints(0, 10, SIDE, SIDE)), 10


def _channels_last(net: Net, x: str) -> tuple[str, int]:
    rows = net.node("Transpose", x, perm=[0, 2, 3, 1])
    dense = net.node("Relu", net.node("Add", net.node("MatMul", rows, net.weight(C, 6)), net.weight(6)))
    return net.node("Transpose", dense, perm=[0, 3, 1, 2]), 6


def _simple(op: str, *more: Callable[[Net], str], channels: int = C, **attributes: object) -> Op:
    return lambda net, x: (net.node(op, x, *(make(net) for make in more), **attributes), channels)


def _ints(*values: int) -> Callable[[Net], str]:
    return lambda net: net.ints(*values)


def _floats(*shape: int) -> Callable[[Net], str]:
    return lambda net: net.weight(*shape)


def _unit(net: Net, x: str, back: Sequence[int], op: str) -> tuple[str, int]:
    return net.node("Unsqueeze", net.node("Squeeze", net.node(op, x), net.ints(*back)), net.ints(*back)), C


OPS: dict[str, Op] = {
    **{op: _simple(op) for op in UNARY},
    **{op: _simple(op, _floats(C, 1, 1)) for op in ("Add", "Mul", "Sub", "Max", "PRelu")},
    "scalar": _simple("Mul", _floats()),
    "full": _simple("Add", _floats(1, C, SIDE, SIDE)),
    "softmax": _simple("Softmax", axis=-1),
    "softmax_over": _simple("Softmax", axis=1),
    "batch_norm": lambda net, x: (net.bn(x, C), C),
    "instance_norm": _simple("InstanceNormalization", _floats(C), _floats(C)),
    "layer_norm": _simple("LayerNormalization", _floats(SIDE), axis=-1),
    "layer_norm_over": _simple("LayerNormalization", _floats(C, SIDE, SIDE), axis=1),
    "depthwise": lambda net, x: (net.conv(x, C, C, group=C), C),
    "depth_multiplier": lambda net, x: (net.conv(x, C, 2 * C, group=C), 2 * C),
    "grouped": lambda net, x: (net.conv(x, C, 8, group=4), 8),
    "transposed": _simple("ConvTranspose", _floats(C, 6, 2, 2), _floats(6), channels=6, strides=[2, 2]),
    "transposed_grouped": _simple("ConvTranspose", _floats(C, 2, 2, 2), _floats(6), channels=6, group=3),
    "max_pool": _simple("MaxPool", kernel_shape=[2, 2]),
    "average_pool": _simple("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "global_pool": _simple("GlobalMaxPool"),
    "squeeze": lambda net, x: _unit(net, x, (2, 3), "GlobalAveragePool"),
    "mean": _simple("ReduceMean", axes=[2, 3]),
    "sum_over": _simple("ReduceSum", _ints(1), channels=1),
    "mean_over": _simple("ReduceMean", channels=1, axes=[1]),
    "tile": _simple("Tile", _ints(1, 2, 1, 1), channels=2 * C),
    "gather": _simple("Gather", _ints(5, 1, 1, 7, 3), channels=5, axis=1),
    "pad": _simple("Pad", _ints(0, 2, 1, 0, 0, 1, 0, 1), channels=C + 3),
    "reflect": _simple("Pad", _ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"),
    "expand": lambda net, x: (net.node("Expand", net.node("GlobalMaxPool", x), net.ints(1, C, SIDE, SIDE)), C),
    "resize": lambda net, x: (
        net.node("Resize", x, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest"),
        C,
    ),
    "resize_to": lambda net, x: (net.node("Resize", x, "", "", net.ints(2, C, 4, 4), mode="linear"), C),
    "depth_to_space": _simple("DepthToSpace", channels=C // 4, blocksize=2),
    "depth_to_space_crd": _simple("DepthToSpace", channels=C // 4, blocksize=2, mode="CRD"),
    "space_to_depth": _simple("SpaceToDepth", channels=4 * C, blocksize=2),
    "residual": _residual,
    "gate": _gate,
    "split": _split,
    "halves": _halves,
    "slice": _slice,
    "dense": _dense,
    "shuffle": _shuffle,
    "pixel_shuffle": _pixel_shuffle,
    "computed_reshape": _computed_reshape,
    "attention": _attention,
    "channels_last": _channels_last,
    "one_hot": _simple("CumSum", lambda net: net.const(np.int64(1))),
    "unknown": _simple("LRN", size=3),
}
FROZEN = ("softmax_over", "layer_norm_over", "one_hot", "unknown")
"""Operators after which no channel of the first convolution may go."""


def network(seed: int, ops: Sequence[str]) -> ir.Model:
    net = Net(seed)
    x, channels = net.conv("x", 3, C), C
    for position, op in enumerate(ops):
        if position:
            x = net.node("Resize", net.conv(x, channels, C, k=1), "", "", net.ints(2, C, SIDE, SIDE))
        x, channels = OPS[op](net, x)
    net.conv(x, channels, 4)
    net.nodes[-1].output[0] = "y"
    return net.model([("x", F, [2, 3, SIDE, SIDE])], [("y", F, None)], opset=17)


def equal(model: ir.Model, kept: dict[str, list[int]]) -> None:
    feeds = builders.feeds_of(model)
    smaller, zeroed = cut(model, kept), masked(model, kept)
    for optimized in (False, True):
        pair = builders.run(zeroed, feeds, optimized), builders.run(smaller, feeds, optimized)
        assert numerics.largest_difference(*pair) <= numerics.EXACT_RELATIVE


def drawn(model: ir.Model, seed: int) -> dict[str, list[int]]:
    rng, kept = np.random.RandomState(seed), {}
    for group in groups_of(model):
        if group.frozen is None and group.size > 1:
            count = rng.randint(1, group.size)
            kept[group.name] = sorted(rng.choice(group.size, count, replace=False).tolist())
    return kept


@pytest.mark.parametrize("op", OPS)
def test_every_operator_alone(op: str) -> None:
    model = network(1, [op])
    first = [g for g in groups_of(model) if g.sources[0] == "Conv_0"]
    assert all(g.frozen for g in first) == (op in FROZEN), [g.frozen for g in first]
    for seed in range(3):
        equal(model, drawn(model, seed))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**16), st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=4))
def test_operators_in_a_row(seed: int, ops: list[str]) -> None:
    model = network(seed, ops)
    equal(model, drawn(model, seed))


def test_a_pad_that_crops_channels_is_left_alone_with_the_reason() -> None:
    net = Net(0)
    cropped = net.node("Pad", net.conv("x", 3, C), net.ints(0, -2, 0, 0, 0, -1, 0, 0))
    net.node("Conv", cropped, net.weight(4, C - 3, 1, 1), out="y")
    model = net.model([("x", F, [1, 3, SIDE, SIDE])], [("y", F, [1, 4, SIDE, SIDE])])
    assert any((group.frozen or "").endswith("crops it") for group in groups_of(model))
