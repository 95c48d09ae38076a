"""Layers and normalizations between two others: what their units are, and that cutting them is masking them."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.channels.choice import Part
from onnxopt.graph.channels.cut import cut_channels, mask_channels
from onnxopt.graph.channels.find import ChannelGroup, channels_of
from tests import builders, numerics
from tests.builders import I64, F, Net

TOKENS: builders.Spec = ("x", F, ["batch", "time", 6])
IMAGE: builders.Spec = ("x", F, ["batch", 3, 8, 8])


def _dense(net: Net, x: str, fan_in: int, fan_out: int) -> str:
    return str(net.node("Add", net.node("MatMul", x, net.weight(fan_in, fan_out)), net.weight(fan_out)))


def _ended(net: Net, x: str, width: int, inputs: Sequence[builders.Spec] = (TOKENS,), opset: int = 17) -> ir.Model:
    net.node("MatMul", x, net.weight(width, 4), out="y")
    domains = [("com.microsoft", 1)] if any(n.domain for n in net.nodes) else []
    return net.model(inputs, [("y", F, None)], opset=opset, ir_version=10, domains=domains)


def _image_ended(net: Net, x: str, width: int, opset: int = 17) -> ir.Model:
    net.conv(x, width, 4)
    net.nodes[-1].output[0] = "y"
    return net.model([IMAGE], [("y", F, None)], opset=opset, ir_version=10)


def free(model: ir.Model, part: Part | None = None) -> dict[str, ChannelGroup]:
    return {g.name: g for g in channels_of(model, part).groups if g.frozen is None}


def halved(model: ir.Model, part: Part | None = None, seed: int = 0) -> ir.Model:
    """Return `model` with half of every group, once it is proved to be the masked one."""
    channels, rng = channels_of(model, part), np.random.RandomState(seed)
    kept = {
        g.name: sorted(rng.choice(g.size, g.size // 2, replace=False).tolist())
        for g in channels.groups
        if g.frozen is None and g.size > 1
    }
    assert kept
    smaller, zeroed = cut_channels(channels, kept), mask_channels(channels, kept)
    for batch in (2, 3):
        feeds = builders.feeds_of(model, batch=batch)
        for optimized in (False, True):
            pair = builders.run(zeroed, feeds, optimized), builders.run(smaller, feeds, optimized)
            assert numerics.largest_difference(*pair) <= numerics.EXACT_RELATIVE
    return smaller


def attribute(model: ir.Model, op: str, name: str) -> int:
    return next(n for n in model.graph if n.op_type == op).attributes[name].as_int()


def _recurrent(op: str, both: int, start: str, layout: int = 0, **attrs: object) -> ir.Model:
    net, gates, hidden = Net(3), {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 6
    x = _dense(net, "x", 6, 8)
    weights = [net.weight(both, gates * hidden, 8), net.weight(both, gates * hidden, hidden)]
    more = [net.weight(both, 2 * gates * hidden), ""]
    if start:
        batch = net.node("Gather", net.node("Shape", "x"), net.ints(0), axis=0)
        target = net.node("Concat", net.ints(both), batch, net.ints(hidden), axis=0)
        initial = net.node(start, *([net.weight(both, 1, hidden)] if start == "Expand" else []), target)
        more += [initial, initial] if op == "LSTM" else [initial]
    if op == "LSTM" and start:
        more.append(net.weight(both, 3 * hidden))
    attrs |= {"direction": "bidirectional" if both == 2 else "reverse", "layout": layout}
    turned = x if layout else net.node("Transpose", x, perm=[1, 0, 2])
    if not layout:
        del attrs["layout"]
    sequence, last = net.node(op, turned, *weights, *more, outs=2, hidden_size=hidden, **attrs)
    ordered = net.node("Transpose", sequence, perm=[0, 1, 2, 3] if layout else [2, 0, 1, 3])
    flat = net.node("Reshape", ordered, net.ints(0, -1, both * hidden))
    state = net.node("Transpose", last, perm=[0, 1, 2] if layout else [1, 0, 2])
    flat = net.node("Add", flat, net.node("Reshape", state, net.ints(0, 1, both * hidden)))
    return _ended(net, flat, both * hidden)


@pytest.mark.parametrize("start", ["", "ConstantOfShape", "Expand"])
@pytest.mark.parametrize("both", [1, 2])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_hidden_units_of_recurrent_layers(op: str, both: int, start: str) -> None:
    for attrs in ({}, {"linear_before_reset": 1}) if op == "GRU" else ({},):
        model = _recurrent(op, both, start, **attrs)
        units = {g.unit: g.size for g in free(model).values()}
        assert units == {"channel": 8, "hidden": 6}
        smaller = halved(model)
        assert attribute(smaller, op, "hidden_size") == 3
        node = next(n for n in smaller.graph if n.op_type == op)
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
        assert [list(v.shape) for v in node.inputs[1:4]] == [
            [both, 3 * gates, 4],
            [both, 3 * gates, 3],
            [both, 6 * gates],
        ]


def test_hidden_units_with_the_batch_first() -> None:
    channels = channels_of(_recurrent("GRU", 2, "", layout=1))
    (hidden,) = (g for g in channels.groups if g.unit == "hidden")
    smaller = cut_channels(channels, {hidden.name: [1, 4]})
    assert attribute(smaller, "GRU", "hidden_size") == 2


def test_hidden_units_that_start_from_an_input_stay() -> None:
    net = Net(4)
    turned = net.node("Transpose", "x", perm=[1, 0, 2])
    _, last = net.node("GRU", turned, net.weight(1, 9, 6), net.weight(1, 9, 3), "", "", "h", outs=2, hidden_size=3)
    model = _ended(net, last, 3, [TOKENS, ("h", F, [1, "batch", 3])], opset=14)
    assert next(g.frozen for g in channels_of(model).groups) == "GRU GRU_1 starts from a state that cannot be cut"


@pytest.mark.parametrize("opset", [18, 21])
def test_whole_groups_of_a_group_normalization(opset: int) -> None:
    net, size = Net(5), 12 if opset >= 21 else 4
    x = net.node("GroupNormalization", net.conv("x", 3, 12), net.weight(size), net.weight(size), num_groups=4)
    model = _image_ended(net, x, 12, opset)
    assert [(g.size, g.unit) for g in free(model).values()] == [(4, "group")]
    assert attribute(halved(model), "GroupNormalization", "num_groups") == 2


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("part", [None, "outer", "inner"])
def test_groups_of_a_convolution_and_channels_within_them(part: Part | None, transposed: bool) -> None:
    net = Net(6)
    x = net.conv("x", 3, 16)
    if transposed:
        x = net.node("ConvTranspose", x, net.weight(16, 4, 1, 1), net.weight(16), group=4)
    else:
        x = net.conv(x, 16, 16, group=4)
    model = _image_ended(net, x, 16)
    smaller = halved(model, part)
    op, inner = "ConvTranspose" if transposed else "Conv", part != "outer"
    node = next(n for n in smaller.graph if n.op_type == op and n.attributes["group"].as_int() > 1)
    expected = {g.unit for g in free(model, part).values()}
    assert expected == ({"group-channel"} if inner else {"group"})
    assert node.attributes["group"].as_int() == (4 if inner else 2)
    assert list(node.inputs[1].shape)[:2] == ([8, 2] if inner else [8, 4])


def _queries(net: Net, heads: int, keys: int, size: int, merged: bool = False) -> str:
    parts = []
    for count in (heads, keys, keys):
        apart = net.node("Reshape", _dense(net, "x", 6, count * size), net.ints(0, -1, count, size))
        part = net.node("Transpose", apart, perm=[0, 2, 1, 3])
        if count < heads:
            shape = net.node("Shape", part)
            batch, time = (net.node("Gather", shape, net.ints(i), axis=0) for i in (0, 2))
            sizes = (batch, net.ints(count, heads // count), time, net.ints(size))
            wide = net.node("Expand", net.node("Unsqueeze", part, net.ints(2)), net.node("Concat", *sizes, axis=0))
            part = net.node("Reshape", wide, net.ints(0, heads, -1, size))
        if merged:
            rest = net.node("Slice", net.node("Shape", part), net.ints(2), net.ints(4))
            part = net.node("Reshape", part, net.node("Concat", net.ints(-1), rest, axis=0))
        parts.append(part)
    order = [0, 2, 1] if merged else [0, 1, 3, 2]
    scores = net.node("MatMul", parts[0], net.node("Transpose", parts[1], perm=order))
    mixed = net.node("MatMul", net.node("Softmax", scores, axis=-1), parts[2])
    if merged:
        time = net.node("Slice", net.node("Shape", "x"), net.ints(1), net.ints(2))
        mixed = net.node("Reshape", mixed, net.node("Concat", net.ints(-1, heads), time, net.ints(size), axis=0))
    return str(net.node("Reshape", net.node("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(0, -1, heads * size)))


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged_with_the_batch"])
@pytest.mark.parametrize(("heads", "keys"), [(4, 4), (8, 4)])
def test_heads_go_with_their_keys_and_values(heads: int, keys: int, merged: bool) -> None:
    net = Net(7)
    model = _ended(net, _queries(net, heads, keys, 4, merged), heads * 4)
    for part in (None, "outer"):
        (group,) = free(model, part).values()
        assert (group.unit, group.size) == ("head", keys)
        assert {len(unit) for _, _, positions in group.members for unit in positions} >= {4, 4 * heads // keys}
    halved(model)


def test_dimensions_of_every_head() -> None:
    net = Net(8)
    model = _ended(net, _queries(net, 4, 4, 6), 24)
    assert [(g.unit, g.size) for g in free(model, "inner").values()] == [("head-dimension", 6)] * 2
    halved(model, "inner")


@pytest.mark.parametrize("part", ["outer", "inner"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_attention_operator(packed: bool, part: Part) -> None:
    net = Net(9)
    parts = [_dense(net, "x", 6, n * 4) for n in (8, 4, 4)]
    if packed:
        mixed = net.node("Attention", *parts, q_num_heads=8, kv_num_heads=4)
    else:
        apart = [net.node("Reshape", p, net.ints(0, -1, n, 4)) for p, n in zip(parts, (8, 4, 4), strict=True)]
        mixed = net.node("Attention", *(net.node("Transpose", p, perm=[0, 2, 1, 3]) for p in apart))
        mixed = net.node("Reshape", net.node("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(0, -1, 32))
    model = _ended(net, mixed, 32, opset=23)
    units = {(g.unit, g.size) for g in free(model, part).values()}
    assert units == ({("head", 4)} if part == "outer" else {("head-dimension", 4)})
    smaller = halved(model, part)
    if packed:
        heads = [attribute(smaller, "Attention", name) for name in ("q_num_heads", "kv_num_heads")]
        assert heads == ([4, 2] if part == "outer" else [8, 4])


def test_scales_per_channel_go_with_the_channels() -> None:
    net = Net(10)
    grid = net.const(net.rng.randint(-127, 128, (8, 3, 3, 3)).astype(np.int8))
    steps, zeros = net.const(net.rng.uniform(0.01, 0.02, 8).astype(np.float32)), net.const(np.zeros(8, np.int8))
    model = _image_ended(net, net.node("Conv", "x", net.node("DequantizeLinear", grid, steps, zeros, axis=0)), 8)
    (group,) = free(model).values()
    assert [(name, axis) for name, axis, _ in group.members][:3] == [(grid, 0), (steps, 0), (zeros, 0)]
    halved(model)


def test_the_width_of_an_embedding() -> None:
    net = Net(12)
    found = net.node("Gather", net.weight(16, 8, name="table"), "ids", axis=0)
    model = _ended(net, net.node("Tanh", found), 8, [("ids", I64, ["batch", "time"])])
    (group,) = free(model).values()
    assert (group.sources, group.members[0][:2]) == (("Gather_0",), ("table", 1))
    assert list(halved(model).graph.initializers["table"].shape) == [16, 4]


@pytest.mark.parametrize("written_out", [True, False])
def test_a_root_mean_square_is_that_of_the_original(written_out: bool) -> None:
    net = Net(13)
    x = _dense(net, "x", 6, 8)
    if written_out:
        mean = net.node("ReduceMean", net.node("Pow", x, net.const(np.float32(2))), net.ints(-1))
        root = net.node("Sqrt", net.node("Add", mean, net.const(np.float32(0.01))))
        x = net.node("Mul", net.node("Div", x, root), net.weight(8))
    else:
        x = net.node("RMSNormalization", x, net.weight(8), epsilon=0.01)
    model = _ended(net, x, 8, opset=23)
    assert [g.size for g in free(model).values()] == [8]
    halved(model)


@pytest.mark.parametrize("equation", ["...c,dc->...d", "atc,cz", "btc,cd->dbt"])
def test_equations(equation: str) -> None:
    net = Net(14)
    x, shape = _dense(net, "x", 6, 8), (5, 8) if "dc" in equation else (8, 5)
    made = net.node("Einsum", x, net.weight(*shape), equation=equation)
    made = net.node("Transpose", made, perm=[1, 2, 0]) if equation.endswith("dbt") else made
    model = _ended(net, net.node("Tanh", made), 5)
    assert sorted(g.size for g in free(model).values()) == [5, 8]
    halved(model)


def test_a_roll_of_channels() -> None:
    net = Net(15)
    x = net.conv("x", 3, 8)
    ends = [net.node("Slice", x, *(net.ints(v) for v in (*cut, 1))) for cut in ((-3, 2**31), (0, -3))]
    model = _image_ended(net, net.node("Concat", *ends, axis=1), 8)
    assert sum(g.size for g in free(model).values()) == 8
    halved(model)


@pytest.mark.parametrize("start", [0, 1])
def test_a_slice_in_steps(start: int) -> None:
    net = Net(16)
    x = net.node("Slice", net.conv("x", 3, 12), net.ints(start, 0), net.ints(2**31, 8), net.ints(1, 2), net.ints(2, 1))
    model = _image_ended(net, x, 6)
    assert sum(g.size for g in free(model).values()) == 12
    halved(model)


def test_what_normalizes_over_channels_keeps_them() -> None:
    net = Net(17)
    x = _dense(net, "x", 6, 8)
    skipped = net.node("SkipLayerNormalization", x, x, net.weight(8), domain="com.microsoft")
    model = _ended(net, net.node("Add", skipped, net.node("LayerNormalization", x, net.weight(8))), 8)
    first = channels_of(model).groups[0]
    assert first.frozen == "SkipLayerNormalization SkipLayerNormalization_2 is an operator of com.microsoft"
    assert channels_of(normalized_by(Net(18), "LayerNormalization")).groups[0].frozen == (
        "LayerNormalization LayerNormalization_2 normalizes over it"
    )


def normalized_by(net: Net, op: str) -> ir.Model:
    return _ended(net, net.node(op, _dense(net, "x", 6, 8), net.weight(8)), 8)


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_a_model_is_cut_more_than_once(name: str) -> None:
    model = builders.BUILDERS[name]()
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    for _ in range(3):
        channels = channels_of(model)
        kept = {g.name: range((g.size + 1) // 2) for g in channels.groups if g.frozen is None and g.size > 1}
        model = cut_channels(channels, kept)
        pair = builders.run(mask_channels(channels, kept), feeds), builders.run(model, feeds)
        assert numerics.largest_difference(*pair) <= numerics.HALF_RELATIVE
