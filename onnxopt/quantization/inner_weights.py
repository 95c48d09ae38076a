"""Weights that layers inside If and Loop compute from constants, as exporters write the reordered gates of an LSTM."""

from collections.abc import Collection

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.quantization.outcome import nodes_inside


def with_inner_weights(model: ir.Model, op_types: Collection[str]) -> ir.Model | None:
    """Return `model` with such weights computed, each in the graph of its layer; None where there is none.

    Branches that share a constant get a copy each, so the caller compares sizes.
    """
    inner = (node for outer in model.graph for node in nodes_inside(outer))
    if not any(node.op_type in op_types and _computes_weight(node) for node in inner):
        return None
    try:
        return optimized_model(model, Runtime(optimization="basic"))
    except (ModelError, NativeError):
        return None


def _computes_weight(node: ir.Node) -> bool:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    return weight is not None and weight.producer() is not None
