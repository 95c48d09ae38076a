"""Constants of a graph that are trainable weights, and constants that are part of the function."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnxopt.training.ops.convert import FLOATS

WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "PRelu", "GroupNormalization", "InstanceNormalization"), (1, 2)),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "RMSNormalization"), (1, 2)),
    **dict.fromkeys(("BiasGelu", "FastGelu"), (1,)),
    # First states are no weights: exporters write one per sample of the batch they saw.
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3, 7)),
    **dict.fromkeys(("MatMul", "FusedMatMul"), (0, 1)),
    "Einsum": (0, 1, 2, 3),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "SkipLayerNormalization": (2, 3, 4),
}
"""Operators of which every float constant is a weight."""

_ELEMENTWISE = ("Add", "Concat", "Div", "Mul", "Sub", "Sum")
"""Where constants of several elements are: biases, scales and embeddings. A single element is part of the function."""

_MOVES = (
    *("Cast", "DequantizeLinear", "Expand", "Identity", "QuantizeLinear", "Reshape"),
    *("Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
_REPEATS = ("Expand", "Tile")
"""A single element that is repeated is a filler, such as the zeros of a first state."""
_STATISTICS = (3, 4)
_MASKED_BELOW = -1e4


def constants_of(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Return the constants of all graphs of a model: initializers, and tensors of Constant nodes."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value
        for node in graph:
            if node.op_type == "Constant" and not node.domain and "value" in node.attributes:
                yield node.outputs[0], node.attributes["value"].as_tensor()


def trainable(model: ir.Model) -> dict[str, ir.Value]:
    """Return the weights of `model` by name; a name that two graphs use is ambiguous and left out."""
    return _by_name(
        value
        for value, tensor in constants_of(model)
        if tensor.dtype in FLOATS
        and _is_weight(value, tensor.size)
        # A weight that is also a statistic, because an exporter stores equal arrays once, must not move alone.
        and not _reaches_statistics(value)
        and not _mask(tensor)
    )


def running_statistics(model: ir.Model) -> dict[str, ir.Value]:
    """Return the means and variances that batch normalizations keep, by name."""
    return _by_name(
        value
        for value, tensor in constants_of(model)
        if tensor.dtype in FLOATS and value.uses() and all(_in_statistics(n, slot) for n, slot in value.uses())
    )


def _by_name(values: Iterator[ir.Value]) -> dict[str, ir.Value]:
    found, twice = dict[str, ir.Value](), set[str]()
    for value in values:
        name = value.name or ""
        twice |= {name} & found.keys()
        found[name] = value
    return {name: value for name, value in found.items() if name not in twice}


def _in_statistics(node: ir.Node, slot: int) -> bool:
    return node.op_type == "BatchNormalization" and slot in _STATISTICS


def _reaches_statistics(value: ir.Value) -> bool:
    return any(
        _in_statistics(node, slot) or (node.op_type == "Identity" and _reaches_statistics(node.outputs[0]))
        for node, slot in value.uses()
    )


def _is_weight(value: ir.Value, size: int) -> bool:
    for node, slot in value.uses():
        if slot in WEIGHT_SLOTS.get(node.op_type, ()) or (node.op_type in _ELEMENTWISE and size > 1):
            return True
        followed = node.op_type in _MOVES and slot == 0 and (size > 1 or node.op_type not in _REPEATS)
        if followed and any(_is_weight(output, size) for output in node.outputs):
            return True
    return False


def _mask(tensor: ir.TensorProtocol) -> bool:
    """Return whether a constant switches positions on and off, as the causal mask of a decoder does."""
    array = tensor.numpy().astype(np.float32)
    if not array.size:
        return True
    return bool((array <= _MASKED_BELOW).any() and ((array == 0) | (array <= _MASKED_BELOW)).all())
