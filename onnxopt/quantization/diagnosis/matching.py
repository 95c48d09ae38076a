"""Correspondence between values of a quantized model and of its float model."""

from collections.abc import Mapping

import onnx_ir as ir


def counterparts(quantized: ir.Model, model: ir.Model) -> Mapping[str, str]:
    """Return the names of values of `model` by the names of those of `quantized`, by the nodes that compute them.

    Names of values are no evidence: the runtime's quantizer removes a ReLU and gives its name to the layer's output.
    """
    nodes = {node.name: node for node in model.graph if node.name}
    inputs = {v.name for v in model.graph.inputs}
    found = {v.name: v.name for v in quantized.graph.inputs if v.name and v.name in inputs}
    for node in quantized.graph:
        source = nodes.get(node.name or "")
        if source is None or source.op_type != node.op_type:
            continue
        for ours, theirs in zip(source.outputs, node.outputs, strict=False):
            if ours.name and theirs.name and ours.dtype in (None, ir.DataType.FLOAT):
                found[theirs.name] = ours.name
    return found
