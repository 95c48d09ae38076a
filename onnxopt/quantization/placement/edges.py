"""The activations that need a conversion between a layer in INT8 and one in float."""

from collections.abc import Collection, Mapping
from math import prod

import numpy as np
import onnx_ir as ir

from onnxopt.graph.probe import probe
from onnxopt.measure.runtime.session import Runtime
from onnxopt.quantization.placement.node_times import conversion_ms
from onnxopt.samples import Feeds
from onnxopt.solver import ALWAYS_FLOAT, Edge


def heads_of(model: ir.Model, integer: Collection[str]) -> dict[str, str]:
    """Return the layer with which each node runs: itself, or for a merged Relu or Clip the layer before it.

    Args:
        model: the float model, every node named.
        integer: names of the layers that can run in INT8.
    """
    heads = {name: name for name in integer}
    for node in model.graph:
        if node.op_type not in ("Relu", "Clip") or node.inputs[0] is None or node.name in heads:
            continue
        producer = node.inputs[0].producer()
        # Merged only if the value between them has no other reader.
        alone = len(node.inputs[0].uses()) == 1 and not node.inputs[0].is_graph_output()
        if producer is not None and producer.name in heads and alone:
            heads[node.name or ""] = heads[producer.name or ""]
    return heads


def edges_of(model: ir.Model, heads: Mapping[str, str], feeds: Feeds, runtime: Runtime) -> tuple[Edge, ...]:
    """Return the float activations between layers, inputs and outputs of the model, with the time of a conversion.

    Args:
        model: the float model.
        heads: the result of `heads_of`; all other nodes are always in float.
        feeds: one batch, which determines the sizes.
        runtime: configuration of ONNX Runtime for timing conversions.
    """
    shapes = probe(model, {name: np.shape(array) for name, array in feeds.items()}).shapes
    base, per_element = conversion_ms(runtime)
    written = [(v, heads.get(node.name or "", ALWAYS_FLOAT)) for node in model.graph for v in node.outputs]
    written += [(v, ALWAYS_FLOAT) for v in model.graph.inputs if v.name not in model.graph.initializers]
    found = []
    for value, writer in written:
        readers = {heads.get(use.node.name or "", ALWAYS_FLOAT) for use in value.uses()}
        readers |= {ALWAYS_FLOAT} if value.is_graph_output() else set()
        if readers - {writer} and value.dtype in (None, ir.DataType.FLOAT):
            size = prod(shapes.get(value.name or "", (0,)))
            found.append(Edge(writer, tuple(sorted(readers)), base + per_element * size))
    return tuple(found)
