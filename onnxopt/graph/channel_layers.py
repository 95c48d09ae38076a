"""How labels end and begin at the operators that have weights: products and convolutions."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channel_labels import Axes, Vector
from onnxopt.graph.channel_node import broadcast, freeze_rest, integer, operand, optional, why
from onnxopt.graph.channel_trace import Frozen, Rule, Trace


def _contract(trace: Trace, node: ir.Node, one: tuple[ir.Value, int], other: tuple[ir.Value, int]) -> None:
    """End the labels of two axes that a node sums over together."""
    vectors = [trace.of(value)[axis] for value, axis in (one, other)]
    joined = trace.labels.same(vectors, why(node, "sums over it together with what cannot be cut"))
    value, axis = other if trace.is_weight(one[0]) else one
    trace.consume(value, axis, joined)


def _start(trace: Trace, node: ir.Node, weight: ir.Value, vector: Vector | None) -> None:
    """Note that the weights of a layer begin new channels."""
    if vector is not None and trace.is_weight(weight):
        trace.sources.append((node.name or "", vector))


def _conv(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    x, weight, bias = operand(node, 0), operand(node, 1), optional(node, 2)
    x_axes, w_axes, group = trace.of(x), trace.of(weight), integer(node, "group", 1)
    out = w_axes[0]
    freeze_rest(trace, x_axes, (0, 1), why(node, "slides over it"))
    if bias is not None:
        out = trace.labels.same((out, trace.of(bias)[0]), why(node, "adds what cannot be cut"))
    freeze_rest(trace, w_axes, (0, 1), "a kernel position")
    if group == 1:
        _contract(trace, node, (x, 1), (weight, 1))
    else:
        trace.labels.freeze(w_axes[1], why(node, "loses whole groups only"))
        out = _grouped(trace, node, x_axes[1], out, group)
    _start(trace, node, weight, out)
    return ((x_axes[0], out, *(None for _ in x_axes[2:])),)


def _grouped(trace: Trace, node: ir.Node, into: Vector | None, out: Vector | None, group: int) -> Vector | None:
    """Unite the inputs and outputs of each group, which then goes as a whole."""
    if into is None or out is None:
        trace.labels.same((into, out), why(node, "groups channels that cannot be cut"))
        return None
    for ins, outs in zip(into.reshape(group, -1), out.reshape(group, -1), strict=True):
        trace.labels.unite_all(np.concatenate([ins, outs]))
    return out


def _conv_transpose(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    x, weight, bias = operand(node, 0), operand(node, 1), optional(node, 2)
    x_axes, w_axes, group = trace.of(x), trace.of(weight), integer(node, "group", 1)
    freeze_rest(trace, x_axes, (0, 1), why(node, "slides over it"))
    freeze_rest(trace, w_axes, (0, 1), "a kernel position")
    if group == 1:
        _contract(trace, node, (x, 1), (weight, 0))
        out = w_axes[1]
    else:
        trace.labels.freeze(w_axes[1], why(node, "loses whole groups only"))
        joined = trace.labels.same((x_axes[1], w_axes[0]), why(node, "groups channels that cannot be cut"))
        out = None
        if joined is not None:
            for block in joined.reshape(group, -1):
                trace.labels.unite_all(block)
            out = np.repeat(joined.reshape(group, -1)[:, 0], trace.shape(weight)[1])
    if bias is not None:
        out = trace.labels.same((out, trace.of(bias)[0]), why(node, "adds what cannot be cut"))
    _start(trace, node, weight, out)
    return ((x_axes[0], out, *(None for _ in x_axes[2:])),)


def _gemm(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    a, b, c = operand(node, 0), operand(node, 1), optional(node, 2)
    turn_a, turn_b = integer(node, "transA", 0), integer(node, "transB", 0)
    _contract(trace, node, (a, 0 if turn_a else 1), (b, 1 if turn_b else 0))
    rows, columns = trace.of(a)[1 if turn_a else 0], trace.of(b)[0 if turn_b else 1]
    shape = (trace.shape(a)[1 if turn_a else 0], trace.shape(b)[0 if turn_b else 1])
    result: Axes = (rows, columns)
    if c is not None:
        result = broadcast(trace, node, [(result, shape), (trace.of(c), trace.shape(c))])
    _start(trace, node, a, result[0])
    _start(trace, node, b, result[1])
    return (result,)


def _matmul(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    a, b = operand(node, 0), operand(node, 1)
    rank_a, rank_b = len(trace.shape(a)), len(trace.shape(b))
    _contract(trace, node, (a, rank_a - 1), (b, max(rank_b - 2, 0)))
    batches = [(trace.of(v)[:-2], trace.shape(v)[:-2]) for v in (a, b) if len(trace.shape(v)) > 2]
    batch = broadcast(trace, node, batches)
    rows = trace.of(a)[-2:-1]
    columns = trace.of(b)[-1:] if rank_b > 1 else ()
    for vector in rows:
        _start(trace, node, a, vector)
    for vector in columns:
        _start(trace, node, b, vector)
    return ((*batch, *rows, *columns),)


def _einsum(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if "." in equation or not arrow or any(len(set(t)) < len(t) for t in (*terms, right)):
        raise Frozen(why(node, f"computes {equation}"))
    result = dict[str, Vector | None]()
    for letter in dict.fromkeys("".join(terms)):
        holders = [
            (v, t.index(letter)) for v, t in zip(node.inputs, terms, strict=True) if v is not None and letter in t
        ]
        if len({trace.shape(v)[i] for v, i in holders}) > 1:
            raise Frozen(why(node, "broadcasts an axis"))
        vectors = [trace.of(v)[i] for v, i in holders]
        result[letter] = trace.labels.same(vectors, why(node, "joins it with what cannot be cut"))
        if letter not in right:
            value, axis = next(((v, i) for v, i in holders if not trace.is_weight(v)), holders[0])
            trace.consume(value, axis, result[letter])
        for value, _ in holders if len(holders) == 1 and letter in right else ():
            _start(trace, node, value, result[letter])
    return (tuple(result[letter] for letter in right),)


def _recurrent(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """End the labels of the input's features; the hidden units stay."""
    x, weight = operand(node, 0), operand(node, 1)
    _contract(trace, node, (x, 2), (weight, 2))
    reason = why(node, "keeps its hidden units")
    freeze_rest(trace, trace.of(x), (2,), reason)
    freeze_rest(trace, trace.of(weight), (2,), reason)
    for value in node.inputs[2:]:
        trace.freeze(value, reason)
    return ()


LAYERS: Mapping[str, Rule] = MappingProxyType(
    {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Einsum": _einsum,
        **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    }
)
