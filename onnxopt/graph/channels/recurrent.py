"""Label rules of recurrent layers; they read their own hidden units."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.labels import Axes
from onnxopt.graph.channels.layers import contract, start
from onnxopt.graph.channels.node import freeze_rest, operand, optional, why
from onnxopt.graph.channels.trace import Rule, Trace

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _recurrent(trace: Trace, node: ir.Node) -> tuple[Axes, ...]:
    """Follow hidden units; a unit is removed from both directions, which have equally many."""
    x, weight, inner = (operand(node, slot) for slot in range(3))
    gates = _GATES[node.op_type]
    contract(trace, node, (x, 2), (weight, 2))
    freeze_rest(trace, trace.of(x), (2,), why(node, "runs over it"))
    units = trace.labels.fresh(trace.shape(inner)[2])
    # Input, axis, and how often the hidden units stand on it: weights, biases, initial states, peepholes.
    places = ((1, 1, gates), (2, 1, gates), (2, 2, 1), (3, 1, 2 * gates), (5, 2, 1), (6, 2, 1), (7, 1, 3))
    for slot, axis, times in places:
        value = optional(node, slot)
        if value is None:
            continue
        reason = why(
            node, "starts from a state that cannot be cut" if slot in (5, 6) else "has weights that cannot be cut"
        )
        trace.labels.same((np.tile(units, times), trace.of(value)[axis]), reason)
        freeze_rest(trace, trace.of(value), (1, 2) if slot in (1, 2) else (axis,), why(node, "has directions"))
    lengths = optional(node, 4)
    if lengths is not None:
        trace.freeze(lengths, why(node, "reads lengths"))
    trace.consume(inner, 2, units)
    start(trace, node, weight, units)
    trace.kind("hidden", units)
    return tuple((*(None for _ in trace.shape(v)[:-1]), units) if v.name else () for v in node.outputs)


RECURRENT: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(_GATES, _recurrent))
