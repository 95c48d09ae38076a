"""GELUs in their tanh form, which exporters wrote as eight or nine operators, as one.

        0.5 * x * (1 + Tanh(0.798 * (x + 0.0447 * x * x * x)))   ->   Gelu(x)

Hendrycks and Gimpel, "Gaussian error linear units", 2016. On a CPU, ONNX Runtime computes the operators one by one.
Exports of torch, JAX, Keras and TensorFlow order them differently: the expression is recognized by its values.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.pointwise.expression import between, computed, is_pointwise
from onnxopt.graph.scales.reading import constant_numbers, only_user

OPSET = 20
"""First opset with the operator."""

_MOST_NODES = 12
_TOLERANCE = 1e-6
"""Largest deviation, relative for large values: the constants are written in float32."""
_POINTS = np.concatenate([np.linspace(-12, 12, 1537), [-1e6, -1e3, -100, 100, 1e3, 1e6]])


def gelu(x: np.ndarray) -> np.ndarray:
    """Return the GELU of `x` in its tanh form."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def write_gelus(model: ir.Model) -> list[str]:
    """Replace decomposed GELUs of the main graph in place, and return the names of their last nodes.

    The result needs opset 20.
    """
    writer, names = NodeWriter(model, "gelu"), list[str]()
    for node in [n for n in model.graph if n.op_type == "Tanh" and not n.domain]:
        found = _found(node)
        if found is None:
            continue
        source, output = found
        last = output.producer()
        assert last is not None
        writer.anchor = last
        result = writer("Gelu", source, kind=ir.DataType.FLOAT, approximate="tanh")
        names.append(last.name or output.name or "")
        ir.convenience.replace_nodes_and_values(model.graph, last, [last], [], [output], [result])
    if names:
        common.RemoveUnusedNodesPass()(model)
    return names


def _found(tanh: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Return the argument and the result of the GELU that a Tanh belongs to."""
    for output in _behind(tanh):
        for source in _before(tanh):
            nodes = between(source, output, _MOST_NODES)
            if nodes and tanh in nodes and _is_gelu(computed(nodes, {source: _POINTS})[output]):
                return source, output
    return None


def _is_gelu(values: np.ndarray) -> bool:
    return bool(np.all(np.abs(values - gelu(_POINTS)) <= _TOLERANCE * np.maximum(np.abs(_POINTS), 1)))


def _behind(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the results of products behind a node, along values that one node reads."""
    value = node.outputs[0]
    for _ in range(_MOST_NODES):
        user = only_user(value)
        if user is None or user.graph is not node.graph or not is_pointwise(user):
            return
        value = user.outputs[0]
        if user.op_type in ("Mul", "Div"):
            yield value


def _before(node: ir.Node) -> list[ir.Value]:
    """Return the values that a node is computed from by pointwise operators, the nearest first."""
    found: list[ir.Value] = []
    edge = [node]
    for _ in range(_MOST_NODES):
        values = [v for n in edge for v in n.inputs if v is not None and constant_numbers(v) is None and v not in found]
        found += dict.fromkeys(values)
        edge = [p for v in values if (p := v.producer()) is not None and is_pointwise(p)]
    return found
