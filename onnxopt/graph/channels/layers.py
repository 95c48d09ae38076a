"""Label rules of operators with weights: products and convolutions."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes, Vector
from onnxopt.graph.channels.node import broadcast, freeze_rest, operand, optional, why
from onnxopt.graph.channels.trace import Frozen, Rule, Trace

_ELLIPSIS = "".join(chr(c) for c in range(0x391, 0x3A9) if c != 0x3A2)


def contract(trace: Trace, node: ir.Node, one: tuple[ir.Value, int], other: tuple[ir.Value, int]) -> None:
    """End the labels of two axes that a node sums over together."""
    vectors = [trace.of(value)[axis] for value, axis in (one, other)]
    joined = trace.labels.same(vectors, why(node, "sums over it together with channels that cannot be cut"))
    value, axis = other if trace.is_weight(one[0]) else one
    trace.consume(value, axis, joined)


def start(trace: Trace, node: ir.Node, weight: ir.Value, vector: Vector | None) -> None:
    """Record the weights of a layer as the source of new channels."""
    if vector is not None and trace.is_weight(weight):
        trace.sources.append((node.name or "", vector))


def _conv(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    x, weight, bias = operand(node, 0), operand(node, 1), optional(node, 2)
    x_axes, w_axes, group = trace.of(x), trace.of(weight), node.attributes.get_int("group", 1)
    out = w_axes[0]
    freeze_rest(trace, x_axes, (0, 1), why(node, "slides over it"))
    if bias is not None:
        out = trace.labels.same((out, trace.of(bias)[0]), why(node, "adds channels that cannot be cut"))
    freeze_rest(trace, w_axes, (0, 1), "a kernel position")
    if group == 1:
        contract(trace, node, (x, 1), (weight, 1))
    else:
        out = _grouped(trace, node, out, group)
    start(trace, node, weight, out)
    return ((x_axes[0], out, *(None for _ in x_axes[2:])),)


def _grouped(trace: Trace, node: ir.Node, out: Vector | None, group: int) -> Vector | None:
    """Unite the inputs and outputs of each group; or the same channel of all groups, inputs and outputs apart."""
    x, weight = operand(node, 0), operand(node, 1)
    into, width = trace.of(x)[1], trace.of(weight)[1]
    if into is None or out is None:
        trace.labels.same((into, width, out), why(node, "groups channels that cannot be cut"))
        return None
    blocks, outs = into.reshape(group, -1), out.reshape(group, -1)
    # A depthwise convolution has no width to cut within its groups.
    if blocks.shape[1] > 1 and trace.part(node, np.concatenate([into, out]), 2) == 1:
        for block in blocks:
            _unite_known(trace, node, width, block)
        for block in outs[1:]:
            trace.labels.unite(outs[0], block)
        trace.consume(x, 1, into)
        trace.kind("group-channel", into)
        trace.kind("group-channel", out)
        return out
    trace.labels.freeze(width, why(node, "can lose whole groups only"))
    for ins, results in zip(blocks, outs, strict=True):
        trace.labels.unite_all(np.concatenate([ins, results]))
    if max(blocks.shape[1], outs.shape[1]) > 1:
        trace.kind("group", out)
    return out


def _unite_known(trace: Trace, node: ir.Node, one: Vector | None, other: Vector | None) -> None:
    trace.labels.same((one, other), why(node, "joins it with channels that cannot be cut"))


def _conv_transpose(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    x, weight, bias = operand(node, 0), operand(node, 1), optional(node, 2)
    x_axes, w_axes, group = trace.of(x), trace.of(weight), node.attributes.get_int("group", 1)
    freeze_rest(trace, x_axes, (0, 1), why(node, "slides over it"))
    freeze_rest(trace, w_axes, (0, 1), "a kernel position")
    if group == 1:
        contract(trace, node, (x, 1), (weight, 0))
        out = w_axes[1]
    else:
        out = _grouped_transpose(trace, node, group)
    if bias is not None:
        out = trace.labels.same((out, trace.of(bias)[0]), why(node, "adds channels that cannot be cut"))
    start(trace, node, weight, out)
    return ((x_axes[0], out, *(None for _ in x_axes[2:])),)


def _grouped_transpose(trace: Trace, node: ir.Node, group: int) -> Vector | None:
    """Unite labels as for a grouped convolution; the weights of the transposed one have inputs and outputs swapped."""
    x, weight = operand(node, 0), operand(node, 1)
    into, width, size = trace.of(weight)[0], trace.of(weight)[1], trace.shape(weight)[1]
    joined = trace.labels.same((trace.of(x)[1], into), why(node, "groups channels that cannot be cut"))
    if joined is None:
        trace.labels.freeze(width, why(node, "groups channels that cannot be cut"))
        return None
    blocks = joined.reshape(group, -1)
    if width is not None and trace.part(node, np.concatenate([joined, width]), 2) == 1:
        for block in blocks[1:]:
            trace.labels.unite(blocks[0], block)
        trace.consume(x, 1, joined)
        trace.kind("group-channel", joined)
        trace.kind("group-channel", width)
        return np.tile(width, group)
    trace.labels.freeze(width, why(node, "can lose whole groups only"))
    for block in blocks:
        trace.labels.unite_all(block)
    if max(blocks.shape[1], size) > 1:
        trace.kind("group", joined)
    return np.repeat(blocks[:, 0], size)


def _gemm(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    a, b, c = operand(node, 0), operand(node, 1), optional(node, 2)
    turn_a, turn_b = node.attributes.get_int("transA", 0), node.attributes.get_int("transB", 0)
    contract(trace, node, (a, 0 if turn_a else 1), (b, 1 if turn_b else 0))
    rows, columns = trace.of(a)[1 if turn_a else 0], trace.of(b)[0 if turn_b else 1]
    shape = (trace.shape(a)[1 if turn_a else 0], trace.shape(b)[0 if turn_b else 1])
    result: Axes = (rows, columns)
    if c is not None:
        result = broadcast(trace, node, [(result, shape), (trace.of(c), trace.shape(c))])
    start(trace, node, a, result[0])
    start(trace, node, b, result[1])
    return (result,)


def _matmul(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    a, b = operand(node, 0), operand(node, 1)
    rank_a, rank_b = len(trace.shape(a)), len(trace.shape(b))
    contract(trace, node, (a, rank_a - 1), (b, max(rank_b - 2, 0)))
    batches = [(trace.of(v)[:-2], trace.shape(v)[:-2]) for v in (a, b) if len(trace.shape(v)) > 2]
    batch = broadcast(trace, node, batches)
    rows = trace.of(a)[-2:-1]
    columns = trace.of(b)[-1:] if rank_b > 1 else ()
    for vector in rows:
        start(trace, node, a, vector)
    for vector in columns:
        start(trace, node, b, vector)
    if not (trace.is_weight(a) or trace.is_weight(b)):
        for vector in (*trace.of(a)[-1:], *rows, *columns):
            trace.kind("head-dimension", vector)
        for vector in batch:
            trace.kind("head", vector)
    return ((*batch, *rows, *columns),)


def _einsum(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    terms, right = _subscripts(trace, node)
    both = sum(v is not None and not trace.is_weight(v) for v in node.inputs) > 1
    result = dict[str, Vector | None]()
    for letter in dict.fromkeys("".join(terms)):
        holders = [
            (v, t.index(letter)) for v, t in zip(node.inputs, terms, strict=True) if v is not None and letter in t
        ]
        size = max(trace.shape(v)[i] for v, i in holders)
        wide = [(v, i) for v, i in holders if trace.shape(v)[i] == size]
        vectors = [trace.of(v)[i] for v, i in wide]
        result[letter] = trace.labels.same(vectors, why(node, "joins it with channels that cannot be cut"))
        if letter not in right:
            value, axis = next(((v, i) for v, i in wide if not trace.is_weight(v)), wide[0])
            trace.consume(value, axis, result[letter])
        for value, _ in holders if len(holders) == 1 and letter in right else ():
            start(trace, node, value, result[letter])
        if both:
            trace.kind("head" if len(holders) > 1 and letter in right else "head-dimension", result[letter])
    return (tuple(result[letter] for letter in right),)


def _subscripts(trace: Trace, node: ir.Node) -> tuple[list[str], str]:
    """Return one letter per axis of each input, and of the output; axes of an ellipsis get capital Greek letters.

    Raises:
        Frozen: a term has a letter twice, which takes a diagonal.
    """
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms, longest = left.split(","), 0
    for position, term in enumerate(terms):
        if "..." in term:
            count = len(trace.shape(operand(node, position))) - len(term) + 3
            longest = max(longest, count)
            terms[position] = term.replace("...", _ELLIPSIS[len(_ELLIPSIS) - count :])
    if not arrow:
        letters = sorted(c for c in left if c.isalpha() and left.count(c) == 1)
        right = ("..." if "." in left else "") + "".join(letters)
    right = right.replace("...", _ELLIPSIS[len(_ELLIPSIS) - longest :])
    if any(len(set(t)) < len(t) for t in (*terms, right)):
        raise Frozen(why(node, f"computes {equation}"))
    return terms, right


LAYERS: Mapping[str, Rule] = MappingProxyType(
    {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Einsum": _einsum,
    }
)
