"""Multiply-accumulates as a function of how many units each group keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.find import Channels
from onnxopt.graph.channels.trace import Trace
from onnxopt.graph.cost import macs_of

_Share = tuple[tuple[str, float], ...]
"""Per group the share of an axis that one unit of it takes."""


@dataclass(frozen=True)
class PruningWork:
    """The cost of a model whose groups shrink.

    Attributes:
        nodes: per node its MACs and the shares of its axes.
        fixed: MACs of the nodes that no group touches.
    """

    nodes: tuple[tuple[float, tuple[_Share, ...]], ...]
    fixed: float

    @classmethod
    def of(cls, channels: Channels) -> "PruningWork":
        """Read costs at the input sizes of the first probe."""
        sized = _shaped(channels)
        originals = {node.name: node for node in channels.model.graph}
        owner = {
            root: group.name
            for group, roots in zip(channels.groups, channels.roots, strict=True)
            for root in roots
            if group.frozen is None
        }
        nodes, fixed = list[tuple[float, tuple[_Share, ...]]](), 0.0
        for node in sized.graph:
            macs = macs_of(node)
            if not macs or node.name not in originals:
                fixed += macs or 0
                continue
            for part, axes in _products(channels.trace, originals[node.name]):
                shares = (_shares(channels.trace, vector, owner) for vector in axes)
                nodes.append((part * macs, tuple(share for share in shares if share)))
        return cls(tuple(nodes), fixed)

    def macs(self, removed: Mapping[str, int]) -> float:
        """Return the MACs after removing that many units of each group."""
        total = self.fixed
        for macs, axes in self.nodes:
            total += macs * prod(1.0 - sum(part * removed.get(name, 0) for name, part in share) for share in axes)
        return total


def _shaped(channels: Channels) -> ir.Model:
    """Return the model with the shapes of the first probe, which knows more than inference on symbols does."""
    model, shapes = channels.model.clone(), channels.trace.first.shapes
    for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)):
        if value.name in shapes:
            value.shape = ir.Shape(shapes[value.name])
    return model


def _shares(trace: Trace, vector: np.ndarray, owner: Mapping[int, str]) -> _Share:
    roots = trace.labels.roots(vector).tolist()
    found = dict[str, list[int]]()
    for root in roots:
        if root in owner:
            found.setdefault(owner[root], []).append(root)
    return tuple((name, len(every) / len(set(every)) / len(roots)) for name, every in found.items())


def _products(trace: Trace, node: ir.Node) -> list[tuple[float, list[np.ndarray]]]:
    """Return the products a node is made of: the share of its work, and labels of the axes it is the product of."""
    if node.op_type not in ("LSTM", "GRU", "RNN"):
        return [(1.0, _axes(trace, node))]
    weights = [v for v in node.inputs[1:3] if v is not None]
    sizes = [prod(trace.first.shapes[v.name or ""]) for v in weights]
    return [
        (size / sum(sizes), [axis for axis in trace.of(v) if axis is not None])
        for v, size in zip(weights, sizes, strict=True)
    ]


def _axes(trace: Trace, node: ir.Node) -> list[np.ndarray]:
    """Return labels of the axes that a node's work is the product of."""
    inputs = [trace.of(v) if v is not None else () for v in node.inputs]
    op = node.op_type
    if op in ("Conv", "ConvTranspose"):
        axes = list(inputs[1][:2])
    elif op == "Gemm":
        turned = node.attributes.get_int("transB", 0)
        axes = [*inputs[0], inputs[1][0 if turned else 1]] if inputs[1] else []
    elif op == "MatMul":
        axes = [*inputs[0], *inputs[1][-1:]]
    elif op == "Einsum":
        axes = _letters(node, inputs)
    else:
        axes = list(inputs[1]) if len(inputs) > 1 else []
    return [vector for vector in axes if vector is not None]


def _letters(node: ir.Node, inputs: list[tuple[np.ndarray | None, ...]]) -> list[np.ndarray | None]:
    terms = node.attributes["equation"].as_string().replace(" ", "").partition("->")[0].split(",")
    found = dict[str, np.ndarray | None]()
    for term, axes in zip(terms, inputs, strict=True):
        if len(term) == len(axes):
            for letter, vector in zip(term, axes, strict=True):
                found.setdefault(letter, vector)
    return list(found.values())
