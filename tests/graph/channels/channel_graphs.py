"""Random graphs over the operators that channels are followed through."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.cut import Kept, cut_channels, mask_channels
from onnxopt.graph.channels.find import channels_of
from tests.builders import F, Net

UNARY = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "LeakyRelu",
    "Elu",
    "Abs",
    "Neg",
    "Identity",
    "Erf",
    "Cos",
    "HardSigmoid",
)
BINARY = ("Add", "Mul", "Sub", "Max", "Min")


@dataclass(frozen=True)
class Flow:
    """A value: an image (batch, channels, side, side), tokens (batch, time, channels) or rows (batch, channels)."""

    name: str
    kind: str
    channels: int
    side: int = 8


class Draft:
    """A graph being drawn: sizes by chance, but the same for the same seed."""

    def __init__(self, seed: int, opset: int, free_batch: bool, free_time: bool) -> None:
        self.net, self.rng, self.opset = Net(seed), np.random.RandomState(seed), opset
        self.free_batch, self.free_time = free_batch, free_time

    def width(self) -> int:
        return int(self.rng.choice([4, 8, 12, 16]))

    def pick(self, options: Any) -> Any:
        return options[self.rng.randint(len(options))]

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.rand() < share)

    def weight(self, *shape: int) -> str:
        """Return a weight, sometimes behind Identity, Transpose, DequantizeLinear or in a Constant node."""
        net, way = self.net, self.rng.randint(12)
        if way == 0:
            return str(net.node("Identity", net.weight(*shape)))
        if way == 1 and len(shape) > 1:
            order = self.rng.permutation(len(shape))
            turned = [shape[i] for i in order]
            return str(net.node("Transpose", net.weight(*turned), perm=np.argsort(order).tolist()))
        if way == 2:
            return str(net.node("Reshape", net.weight(int(np.prod(shape))), net.ints(*shape)))
        if way == 3 and self.opset >= 13 and len(shape) > 1:
            axis = int(self.rng.randint(len(shape)))
            grid = net.const(net.rng.randint(-127, 128, shape).astype(np.int8))
            steps = net.const(net.rng.uniform(0.001, 0.01, shape[axis]).astype(np.float32))
            return str(net.node("DequantizeLinear", grid, steps, axis=axis))
        return net.weight(*shape)

    def conv(self, x: str, cin: int, cout: int, k: int = 3, **attrs: Any) -> str:
        inputs = [x, self.weight(cout, cin // attrs.get("group", 1), k, k)]
        inputs += [self.weight(cout)] if self.chance() else []
        return str(self.net.node("Conv", *inputs, pads=[k // 2] * 4, **attrs))

    def dense(self, x: str, cin: int, cout: int, rank: int = 3) -> str:
        """Return a linear layer over the last axis, in one of the ways it can be written."""
        net, way = self.net, self.rng.randint(5)
        if way == 0:
            letters = "ab"[: rank - 1]
            x = str(net.node("Einsum", x, self.weight(cin, cout), equation=f"{letters}c,cd->{letters}d"))
        elif way == 1:
            x = str(net.node("Einsum", x, self.weight(cout, cin), equation="...c,dc->...d"))
        elif way == 2 and rank == 2:
            turn = int(self.chance())
            shape = (cout, cin) if turn else (cin, cout)
            bias = [self.weight(cout)] if self.chance() else []
            return str(net.node("Gemm", x, self.weight(*shape), *bias, transB=turn, alpha=0.5, beta=2.0))
        else:
            x = str(net.node("MatMul", x, self.weight(cin, cout)))
        return str(net.node("Add", x, self.weight(cout))) if self.chance() else x

    def mean(self, x: str, *axes: int, keep: int = 1, op: str = "ReduceMean") -> str:
        if self.opset >= 18 or op == "ReduceSum":
            return str(self.net.node(op, x, self.net.ints(*axes), keepdims=keep))
        return str(self.net.node(op, x, axes=list(axes), keepdims=keep))


Block = Callable[[Draft, Flow], Flow | None]
"""Nodes after a value; None where they do not fit it."""
BLOCKS: dict[str, list[Block]] = {"image": [], "tokens": [], "rows": []}


def block(*kinds: str) -> Callable[[Block], Block]:
    def note(make: Block) -> Block:
        for kind in kinds:
            BLOCKS[kind].append(make)
        return make

    return note


def _to(d: Draft, x: Flow, op: str, *inputs: str, **attrs: Any) -> Flow:
    return replace(x, name=str(d.net.node(op, x.name, *inputs, **attrs)))


@block("image", "tokens", "rows")
def unary(d: Draft, x: Flow) -> Flow:
    return _to(d, x, d.pick(UNARY))


@block("image", "tokens", "rows")
def with_constant(d: Draft, x: Flow) -> Flow:
    shape = (x.channels, 1, 1) if x.kind == "image" else (x.channels,)
    shape = d.pick([shape, (), (1, *shape)])
    return _to(d, x, "PRelu" if d.chance(0.2) else d.pick(BINARY), d.net.weight(*shape))


@block("image")
def convolution(d: Draft, x: Flow) -> Flow:
    width = d.width()
    return replace(x, name=d.conv(x.name, x.channels, width, d.pick([1, 3])), channels=width)


@block("image")
def bottleneck(d: Draft, x: Flow) -> Flow:
    """Draw convolution - grouped convolution - convolution, the middle one of any number of groups."""
    width = d.width()
    group = d.pick([g for g in (1, 2, 4, width) if width % g == 0])
    out = group * d.pick([1, 2, 3])
    inner = d.net.node("Relu", d.conv(x.name, x.channels, width, 1))
    inner = d.net.node("Relu", d.conv(inner, width, out, 3, group=group))
    return replace(x, name=d.conv(inner, out, x.channels, 1))


@block("image")
def grouped(d: Draft, x: Flow) -> Flow:
    group = d.pick([g for g in (2, 4, x.channels) if x.channels % g == 0])
    out = group * d.pick([1, 2, 4])
    return replace(x, name=d.conv(x.name, x.channels, out, 3, group=group), channels=out)


@block("image")
def transposed(d: Draft, x: Flow) -> Flow:
    group = d.pick([g for g in (1, 1, 2, 4, x.channels) if x.channels % g == 0])
    each = d.pick([1, 2, 3, 4])
    bias = [d.weight(group * each)] if d.chance() else []
    made = _to(d, x, "ConvTranspose", d.weight(x.channels, each, 3, 3), *bias, pads=[1] * 4, group=group)
    return replace(made, channels=group * each)


@block("image")
def normalized(d: Draft, x: Flow) -> Flow:
    if d.chance():
        return replace(x, name=d.net.bn(x.name, x.channels))
    if d.opset >= 18 and d.chance():
        groups = d.pick([g for g in (1, 2, 4, x.channels) if x.channels % g == 0])
        size = x.channels if d.opset >= 21 else groups
        scales = d.net.weight(size), d.net.weight(size)
        return _to(d, x, "GroupNormalization", *scales, num_groups=groups, epsilon=0.5)
    if d.chance():
        groups = d.pick([g for g in (2, 4, x.channels) if x.channels % g == 0])
        apart = d.net.node("Reshape", x.name, d.net.ints(0, groups, -1))
        ones = d.net.weight(groups), d.net.weight(groups)
        normal = d.net.node("InstanceNormalization", apart, *ones, epsilon=0.5)
        side = d.net.node("Reshape", normal, d.net.ints(0, x.channels, x.side, x.side))
        return replace(x, name=d.net.node("Mul", side, d.net.weight(x.channels, 1, 1)))
    return _to(d, x, "InstanceNormalization", d.net.weight(x.channels), d.net.weight(x.channels), epsilon=0.5)


@block("image")
def pooled(d: Draft, x: Flow) -> Flow:
    return _to(d, x, d.pick(["MaxPool", "AveragePool"]), kernel_shape=[3, 3], pads=[1] * 4)


@block("image", "tokens", "rows")
def residual(d: Draft, x: Flow) -> Flow:
    y = d.net.node("Relu", _linear(d, x.name, x, x.channels))
    return _to(d, x, "Add", _linear(d, y, x, x.channels) if d.chance() else y)


def _linear(d: Draft, name: str, x: Flow, width: int) -> str:
    if x.kind == "image":
        return d.conv(name, x.channels, width)
    return d.dense(name, x.channels, width, 3 if x.kind == "tokens" else 2)


def _axis(x: Flow) -> int:
    return 1 if x.kind == "image" else -1


@block("image", "tokens", "rows")
def joined(d: Draft, x: Flow) -> Flow:
    width = d.width()
    parts = [x.name, d.net.node("Relu", _linear(d, x.name, x, width))][:: d.pick([1, -1])]
    rank = {"image": 4, "tokens": 3, "rows": 2}[x.kind]
    axis = _axis(x) if d.chance() else _axis(x) % rank
    return replace(x, name=d.net.node("Concat", *parts, axis=axis), channels=x.channels + width)


@block("image", "tokens", "rows")
def gated(d: Draft, x: Flow) -> Flow:
    """Draw GLU halves, by Split or by two Slices."""
    wide = _linear(d, x.name, x, 2 * x.channels)
    if d.chance():
        a, b = d.net.node("Split", wide, d.net.ints(x.channels, x.channels), outs=2, axis=_axis(x))
    else:
        bounds = ((0, x.channels), (x.channels, 2**31))
        ends = [[d.net.ints(i), d.net.ints(j), d.net.ints(_axis(x))] for i, j in bounds]
        a, b = (d.net.node("Slice", wide, *three) for three in ends)
    return replace(x, name=d.net.node("Mul", a, d.net.node("Sigmoid", b)))


@block("image", "tokens", "rows")
def split(d: Draft, x: Flow) -> Flow | None:
    if x.channels < 5:
        return None
    first = int(d.rng.randint(2, x.channels - 1))
    a, b = d.net.node("Split", x.name, d.net.ints(first, x.channels - first), outs=2, axis=_axis(x))
    return replace(x, name=d.net.node("Concat", d.net.node("Relu", b), a, axis=_axis(x)))


@block("image", "tokens", "rows")
def sliced(d: Draft, x: Flow) -> Flow | None:
    if x.channels < 6:
        return None
    start, end, step = d.pick([(1, -1, 1), (0, 2**31, 2), (1, 2**31, 2), (-1, -(2**31), -1), (-2, 0, -2), (2, 5, 1)])
    count = len(range(*slice(start, end if end > -(2**31) else None, step).indices(x.channels)))
    axis, more = _axis(x), x.kind == "image" and d.chance()
    lists = [[start], [end], [axis], [step]]
    if more:
        for column, number in zip(lists, (0, 2**31, 2, 1), strict=True):
            column.append(number)
    return replace(x, name=d.net.node("Slice", x.name, *(d.net.ints(*c) for c in lists)), channels=count)


@block("image", "tokens", "rows")
def picked(d: Draft, x: Flow) -> Flow:
    count = d.pick([2, x.channels, x.channels + 3])
    indices = d.net.const(d.rng.randint(-x.channels, x.channels, count).astype(np.int64))
    return replace(x, name=d.net.node("Gather", x.name, indices, axis=_axis(x)), channels=count)


@block("image", "tokens", "rows")
def padded(d: Draft, x: Flow) -> Flow:
    rank = {"image": 4, "tokens": 3, "rows": 2}[x.kind]
    before, after = d.rng.randint(0, 3, 2).tolist()
    pads = [0] * (2 * rank)
    pads[_axis(x) % rank], pads[_axis(x) % rank + rank] = before, after
    value = [d.net.const(np.float32(d.pick([0, 1.5])))]
    return replace(x, name=d.net.node("Pad", x.name, d.net.ints(*pads), *value), channels=x.channels + before + after)


@block("image")
def padded_sides(d: Draft, x: Flow) -> Flow:
    mode = d.pick(["constant", "reflect", "edge"])
    grown = d.net.node("Pad", x.name, d.net.ints(0, 0, 1, 1, 0, 0, 1, 1), mode=mode)
    return replace(x, name=d.conv(grown, x.channels, x.channels, 1, strides=[1, 1]), side=x.side + 2)


@block("image", "tokens", "rows")
def tiled(d: Draft, x: Flow) -> Flow | None:
    rank = {"image": 4, "tokens": 3, "rows": 2}[x.kind]
    if x.channels > 16:
        return None
    repeats = [2 if i == _axis(x) % rank else 1 for i in range(rank)]
    return replace(x, name=d.net.node("Tile", x.name, d.net.ints(*repeats)), channels=2 * x.channels)


@block("image")
def resized(d: Draft, x: Flow) -> Flow | None:
    if x.side > 16:
        return None
    mode, side = d.pick(["nearest", "linear"]), 2 * x.side
    if d.opset >= 18 and d.chance(0.4):
        grown = d.net.node("Resize", x.name, "", "", d.net.ints(side, side), mode=mode, axes=[2, 3])
    elif d.chance() or d.free_batch:
        grown = d.net.node("Resize", x.name, "", d.net.const(np.array([1, 1, 2, 2], np.float32)), mode=mode)
    else:
        grown = d.net.node("Resize", x.name, "", "", d.net.ints(2, x.channels, side, side), mode=mode)
    return replace(x, name=d.net.node("MaxPool", grown, kernel_shape=[2, 2], strides=[2, 2]))


@block("image")
def squeezed(d: Draft, x: Flow) -> Flow:
    """Draw a squeeze-and-excitation gate, over convolutions or over rows."""
    middle = d.width()
    if d.chance():
        small = d.net.node("Relu", d.conv(d.net.node("GlobalAveragePool", x.name), x.channels, middle, 1))
        gate = d.conv(small, middle, x.channels, 1)
    else:
        rows = d.mean(x.name, 2, 3, keep=0)
        small = d.net.node("Relu", d.dense(rows, x.channels, middle, 2))
        gate = d.net.node("Unsqueeze", d.dense(small, middle, x.channels, 2), d.net.ints(2, 3))
    return _to(d, x, "Mul", d.net.node("Sigmoid", gate))


@block("image")
def shuffled(d: Draft, x: Flow) -> Flow | None:
    groups = d.pick([2, 4])
    if x.channels % groups or x.channels == groups:
        return None
    wide = d.net.node("Reshape", x.name, d.net.ints(0, groups, x.channels // groups, x.side, x.side))
    turned = d.net.node("Transpose", wide, perm=[0, 2, 1, 3, 4])
    return replace(x, name=d.net.node("Reshape", turned, d.net.ints(0, d.pick([-1, x.channels]), x.side, x.side)))


@block("image")
def deep_to_space(d: Draft, x: Flow) -> Flow | None:
    if x.channels % 4 or x.channels == 4 or x.side > 16:
        return None
    grown = d.net.node("DepthToSpace", x.name, blocksize=2, mode=d.pick(["DCR", "CRD"]))
    return replace(x, name=grown, channels=x.channels // 4, side=2 * x.side)


@block("image")
def space_to_depth(d: Draft, x: Flow) -> Flow | None:
    if x.side % 2 or x.channels > 16 or x.side < 4:
        return None
    return replace(x, name=d.net.node("SpaceToDepth", x.name, blocksize=2), channels=4 * x.channels, side=x.side // 2)


@block("image")
def pixel_shuffled(d: Draft, x: Flow) -> Flow | None:
    if x.channels % 4 or x.channels == 4 or x.side > 16:
        return None
    c, side = x.channels // 4, x.side
    wide = d.net.node("Reshape", x.name, d.net.ints(0, c, 2, 2, side, side))
    turned = d.net.node("Transpose", wide, perm=[0, 1, 4, 2, 5, 3])
    whole = d.net.node("Reshape", turned, d.net.ints(0, c, 2 * side, 2 * side))
    return replace(x, name=whole, channels=c, side=2 * side)


@block("image")
def expanded(d: Draft, x: Flow) -> Flow:
    if d.free_batch:
        sizes = [d.net.node("Gather", d.net.node("Shape", x.name), d.net.ints(i), axis=0) for i in range(4)]
        target = d.net.node("Concat", *sizes, axis=0)
    else:
        target = d.net.ints(2, x.channels, x.side, x.side)
    return _to(d, x, "Add", d.net.node("Expand", d.net.node("GlobalMaxPool", x.name), target))


@block("image")
def reshaped_by_sizes(d: Draft, x: Flow) -> Flow:
    shape = d.net.node("Shape", x.name)
    sizes = [d.net.node("Gather", shape, d.net.ints(i), axis=0) for i in range(4)]
    flat = d.net.node("Reshape", x.name, d.net.node("Concat", *sizes[:2], d.net.ints(-1), axis=0))
    return replace(x, name=d.net.node("Reshape", d.net.node("Relu", flat), d.net.node("Concat", *sizes, axis=0)))


@block("image")
def channels_last(d: Draft, x: Flow) -> Flow:
    width, rows = d.width(), d.net.node("Transpose", x.name, perm=[0, 2, 3, 1])
    if d.chance():
        scale = d.net.weight(x.channels), d.net.weight(x.channels)
        normal = d.net.node("LayerNormalization", rows, *scale, axis=-1, epsilon=0.5) if d.opset >= 17 else rows
        wide = d.net.node("Relu", d.net.node("MatMul", normal, d.weight(x.channels, 2 * width)))
        rows = d.net.node("MatMul", wide, d.weight(2 * width, width))
    else:
        rows = d.net.node("Add", d.net.node("MatMul", rows, d.weight(x.channels, width)), d.net.weight(width))
    return replace(x, name=d.net.node("Transpose", rows, perm=[0, 3, 1, 2]), channels=width)


@block("image")
def signal(d: Draft, x: Flow) -> Flow:
    """Draw a one-dimensional convolution over rows of pixels."""
    width = d.width()
    line = d.net.node("Reshape", x.name, d.net.ints(0, 0, -1))
    group = 2 if x.channels % 2 == 0 and d.chance(0.3) else 1
    made = d.net.node("Conv", line, d.weight(width, x.channels // group, 3), pads=[1, 1], group=group)
    made = d.net.node("Squeeze", d.net.node("Unsqueeze", made, d.net.ints(2)), d.net.ints(2))
    return replace(x, name=d.net.node("Reshape", made, d.net.ints(0, width, x.side, x.side)), channels=width)


@block("image")
def quantized(d: Draft, x: Flow) -> Flow:
    steps, zero = d.net.const(np.float32(0.05)), d.net.const(np.uint8(128))
    grid = d.net.node("QuantizeLinear", x.name, steps, zero)
    return replace(x, name=d.net.node("DequantizeLinear", grid, steps, zero))


@block("image")
def image_to_tokens(d: Draft, x: Flow) -> Flow:
    line = d.net.node("Reshape", x.name, d.net.ints(0, d.pick([0, x.channels]), -1))
    return Flow(d.net.node("Transpose", line, perm=[0, 2, 1]), "tokens", x.channels, x.side)


@block("image")
def image_to_rows(d: Draft, x: Flow) -> Flow:
    if d.chance():
        return Flow(d.net.node("Flatten", d.net.node("GlobalAveragePool", x.name)), "rows", x.channels)
    if d.chance():
        return Flow(
            d.mean(x.name, -1, -2, keep=0, op=d.pick(["ReduceMax", "ReduceMean", "ReduceSum"])), "rows", x.channels
        )
    flat = d.net.node("Flatten", x.name) if d.chance() else d.net.node("Reshape", x.name, d.net.ints(0, -1))
    width = d.width()
    return Flow(d.net.node("MatMul", flat, d.net.weight(x.channels * x.side**2, width)), "rows", width)


@block("tokens", "rows")
def mlp(d: Draft, x: Flow) -> Flow:
    width, rank = d.width(), 3 if x.kind == "tokens" else 2
    wide = d.net.node(d.pick(UNARY), d.dense(x.name, x.channels, width, rank))
    return replace(x, name=d.dense(wide, width, x.channels, rank))


@block("tokens")
def attention(d: Draft, x: Flow) -> Flow:
    """Draw attention with grouped queries, fused or separate projections, by products, Einsum or the operator."""
    net, size = d.net, d.pick([2, 4])
    heads, keys = d.pick([(4, 4), (4, 2), (2, 2), (4, 1), (6, 3)])
    if heads == keys and d.chance(0.3):
        fused = net.node("Reshape", d.dense(x.name, x.channels, 3 * heads * size), net.ints(0, -1, 3, heads, size))
        turned = net.node("Transpose", fused, perm=[2, 0, 3, 1, 4])
        q, k, v = (net.node("Gather", turned, net.const(np.int64(i)), axis=0) for i in range(3))
        return replace(x, name=_attended(d, q, k, v, x, heads, size))
    if d.opset >= 23 and d.chance():
        packed = [d.dense(x.name, x.channels, n * size) for n in (heads, keys, keys)]
        made = net.node("Attention", *packed, q_num_heads=heads, kv_num_heads=keys)
        return replace(x, name=d.dense(made, heads * size, x.channels))
    parts = []
    for count in (heads, keys, keys):
        apart = net.node("Reshape", d.dense(x.name, x.channels, count * size), net.ints(0, -1, count, size))
        part = net.node("Transpose", apart, perm=[0, 2, 1, 3])
        if count < heads:
            wide = net.node("Unsqueeze", part, net.ints(2))
            shape = net.node("Shape", part)
            batch, time = (net.node("Gather", shape, net.ints(i), axis=0) for i in (0, 2))
            rest = net.ints(count, heads // count), net.ints(size)
            target = net.node("Concat", batch, rest[0], time, rest[1], axis=0)
            part = net.node("Reshape", net.node("Expand", wide, target), net.ints(0, heads, -1, size))
        parts.append(part)
    return replace(x, name=_attended(d, *parts, x, heads, size))


@block("tokens")
def merged_attention(d: Draft, x: Flow) -> Flow:
    """Draw attention with batch and heads in one axis, as products of three axes need it."""
    net, heads, size = d.net, 4, d.pick([2, 4])
    parts = []
    for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)):
        wide = d.dense(x.name, x.channels, heads * size)
        turned = net.node("Transpose", net.node("Reshape", wide, net.ints(0, -1, heads, size)), perm=perm)
        shape = net.node("Shape", turned)
        first = net.node("ReduceProd", net.node("Slice", shape, net.ints(0), net.ints(2)), keepdims=1)
        ends = [first if d.chance() else net.ints(-1), net.node("Slice", shape, net.ints(2), net.ints(4))]
        target = net.node("Concat", *ends, axis=0)
        parts.append(net.node("Reshape", turned, target))
    weights = net.node("Softmax", net.node("MatMul", parts[0], parts[1]), axis=-1)
    time = net.node("Slice", net.node("Shape", x.name), net.ints(1), net.ints(2))
    target = net.node("Concat", net.ints(-1, heads), time, net.ints(size), axis=0)
    mixed = net.node("Reshape", net.node("MatMul", weights, parts[2]), target)
    joined = net.node("Reshape", net.node("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(0, -1, heads * size))
    return replace(x, name=d.dense(joined, heads * size, x.channels))


def _attended(d: Draft, q: str, k: str, v: str, x: Flow, heads: int, size: int) -> str:
    net = d.net
    if d.chance(0.3):
        weights = net.node("Softmax", net.node("Einsum", q, k, equation="bhqd,bhkd->bhqk"), axis=-1)
        mixed = net.node("Einsum", weights, v, equation="bhqk,bhkd->bqhd")
    else:
        scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
        weights = net.node("Softmax", net.node("Mul", scores, net.const(np.float32(0.5))), axis=-1)
        mixed = net.node("Transpose", net.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    if d.chance(0.3):
        return str(net.node("Einsum", mixed, d.weight(heads, size, x.channels), equation="bthd,hdc->btc"))
    return d.dense(net.node("Reshape", mixed, net.ints(0, -1, heads * size)), heads * size, x.channels)


@block("tokens")
def recurrent(d: Draft, x: Flow) -> Flow:
    """Draw LSTM, GRU or RNN, one or both directions, its sequence or its last state repeated."""
    net, op, hidden = d.net, d.pick(["LSTM", "GRU", "RNN"]), d.pick([3, 4, 6])
    both, gates = d.pick([1, 2]), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    weights = [net.weight(both, gates * hidden, x.channels), net.weight(both, gates * hidden, hidden)]
    more = [net.weight(both, 2 * gates * hidden)] if d.chance() else []
    attrs: dict[str, Any] = {"linear_before_reset": 1} if op == "GRU" and d.chance() else {}
    turned = net.node("Transpose", x.name, perm=[1, 0, 2])
    if d.chance(0.4):
        batch = net.node("Gather", net.node("Shape", x.name), net.ints(0), axis=0)
        target = net.node("Concat", net.ints(both), batch, net.ints(hidden), axis=0)
        if d.chance():
            start = net.node("ConstantOfShape", target)
        else:
            start = net.node("Expand", net.weight(both, 1, hidden), target)
        more = [*(more or [""]), "", start]
    if op == "LSTM" and d.chance(0.3):
        more = [*more, *[""] * (4 - len(more)), net.weight(both, 3 * hidden)]
    attrs["direction"] = "bidirectional" if both == 2 else d.pick(["forward", "reverse"])
    outs = net.node(op, turned, *weights, *more, outs=2, hidden_size=hidden, **attrs)
    if d.chance():
        last = net.node("Reshape", net.node("Transpose", outs[1], perm=[1, 0, 2]), net.ints(0, 1, both * hidden))
        return replace(
            x, name=net.node("Add", d.dense(x.name, x.channels, both * hidden), last), channels=both * hidden
        )
    ordered = net.node("Transpose", outs[0], perm=[2, 0, 1, 3])
    if both == 1 and d.chance():
        ordered = net.node("Squeeze", ordered, net.ints(2))
    else:
        ordered = net.node("Reshape", ordered, net.ints(0, -1, both * hidden))
    return replace(x, name=ordered, channels=both * hidden)


@block("tokens")
def normed(d: Draft, x: Flow) -> Flow | None:
    if d.opset < 17:
        return None
    return _to(d, x, "LayerNormalization", d.net.weight(x.channels), d.net.weight(x.channels), epsilon=0.5)


@block("tokens", "rows")
def root_mean_square(d: Draft, x: Flow) -> Flow:
    """Draw RMSNorm, written out or as one operator."""
    if d.opset >= 23 and d.chance():
        return _to(d, x, "RMSNormalization", d.net.weight(x.channels), axis=-1, epsilon=0.1)
    mean = d.mean(d.net.node("Mul", x.name, x.name), -1)
    root = d.net.node("Sqrt", d.net.node("Add", mean, d.net.const(np.float32(0.1))))
    return _to(d, replace(x, name=d.net.node("Div", x.name, root)), "Mul", d.net.weight(x.channels))


@block("tokens", "rows")
def unit_length(d: Draft, x: Flow) -> Flow:
    length = d.mean(x.name, -1, op="ReduceL2")
    return _to(d, x, "Div", d.net.node("Add", length, d.net.const(np.float32(0.5))))


@block("tokens")
def left_weight(d: Draft, x: Flow) -> Flow:
    """Draw a product with the weight on the left, of one or of a batch of one."""
    turned, width = d.net.node("Transpose", x.name, perm=[0, 2, 1]), d.width()
    shape = d.pick([(width, x.channels), (1, width, x.channels)])
    made = d.net.node("Relu", d.net.node("MatMul", d.weight(*shape), turned))
    return replace(x, name=d.net.node("Transpose", made, perm=[0, 2, 1]), channels=width)


@block("tokens")
def tokens_to_rows(d: Draft, x: Flow) -> Flow:
    if d.chance():
        return Flow(d.net.node("Gather", x.name, d.net.const(np.int64(0)), axis=1), "rows", x.channels)
    return Flow(d.mean(x.name, 1, keep=0, op=d.pick(["ReduceMean", "ReduceMax"])), "rows", x.channels)


@block("rows")
def rows_to_tokens(d: Draft, x: Flow) -> Flow:
    width = d.pick([2, 4, 6])
    wide = d.dense(x.name, x.channels, 3 * width, 2)
    return Flow(d.net.node("Reshape", wide, d.net.ints(0, 3, width)), "tokens", width)


@block("rows")
def rows_to_image(d: Draft, x: Flow) -> Flow:
    width = d.pick([4, 8])
    wide = d.net.node("Relu", d.dense(x.name, x.channels, 16 * width, 2))
    return Flow(d.net.node("Reshape", wide, d.net.ints(-1, width, 4, 4)), "image", width, 4)


@block("rows")
def turned_gemm(d: Draft, x: Flow) -> Flow:
    width = d.width()
    turned = d.net.node("Transpose", x.name, perm=[1, 0])
    return replace(x, name=d.net.node("Gemm", turned, d.net.weight(x.channels, width), transA=1), channels=width)


@block("image", "tokens", "rows")
def shared(d: Draft, x: Flow) -> Flow:
    """Draw two layers with the same weights."""
    bias = d.net.weight(x.channels)
    if x.kind == "image":
        weight = d.net.weight(x.channels, x.channels, 1, 1)
        one = d.net.node("Relu", d.net.node("Conv", x.name, weight, bias))
        return replace(x, name=d.net.node("Conv", one, weight, bias))
    weight = d.net.weight(x.channels, x.channels)
    one = d.net.node("Relu", d.net.node("Add", d.net.node("MatMul", x.name, weight), bias))
    return replace(x, name=d.net.node("Add", d.net.node("MatMul", one, weight), bias))


START = {"image": 3, "tokens": 6, "rows": 6}


def network(seed: int, kind: str, opset: int, free: tuple[bool, bool], draws: list[int]) -> ir.Model:
    """Return layer - blocks - layer; each number in `draws` chooses a block."""
    d = Draft(seed, opset, *free)
    batch = "batch" if free[0] else 2
    shapes = {"image": [batch, 3, 8, 8], "tokens": [batch, "time" if free[1] else 5, 6], "rows": [batch, 6]}
    width = d.width()
    x = Flow("x", kind, START[kind])
    x = replace(x, name=_linear(d, "x", x, width), channels=width)
    for draw in draws:
        table = BLOCKS[x.kind]
        x = table[draw % len(table)](d, x) or x
    _linear(d, d.net.node("Tanh", x.name), x, 4)
    d.net.nodes[-1].output[0] = "y"
    return d.net.model([("x", F, shapes[kind])], [("y", F, None)], opset=opset, ir_version=10)


def cut(model: ir.Model, kept: Kept) -> ir.Model:
    """Return the model with only the `kept` units."""
    return cut_channels(channels_of(model), kept)


def masked(model: ir.Model, kept: Kept) -> ir.Model:
    """Return the model with its removed units multiplied by zero before every consumer."""
    return mask_channels(channels_of(model), kept)
