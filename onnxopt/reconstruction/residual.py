"""The other operand of a residual sum, whose error a layer can correct in addition to its own."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.reconstruction.affine import batch_norm_of, initializer_array, per_channel


@dataclass(frozen=True)
class Partner:
    """A value that is added to `scale` times the layer's output, both of the same shape.

    Attributes:
        scale: per output channel, shape (outputs,), or a scalar.
    """

    value: str
    scale: np.ndarray


def partner_of(model: ir.Model, y: str, outputs: int, axis: int) -> Partner | None:
    """Follow a value through biases, normalizations and scales to the Add of a residual connection.

    Args:
        model: the model.
        y: name of a layer's output.
        outputs: number of its channels.
        axis: axis of the channels: 1 for convolutions, -1 for products.
    """
    values = {v.name: v for node in model.graph for v in node.outputs}
    value, scale = values.get(y), np.ones(())
    # Channels along axis 1 are followed by as many axes as the kernel has.
    behind = _spatial(value) if axis == 1 else 0
    while value is not None:
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or uses[0][0].graph is not model.graph:
            return None
        node, slot = uses[0]
        if node.domain:
            return None
        other = node.inputs[1 - slot] if node.op_type in ("Add", "Mul") and len(node.inputs) == 2 else None
        if other is not None and initializer_array(model, other) is None:
            return Partner(other.name or "", scale) if node.op_type == "Add" and _usable(scale) else None
        factor = _factor(model, node, slot, outputs, axis=axis, behind=behind)
        if factor is None:
            return None
        scale = scale * factor
        value = node.outputs[0]
    return None


def _factor(model: ir.Model, node: ir.Node, slot: int, outputs: int, *, axis: int, behind: int) -> np.ndarray | None:
    """Return the factor per channel of a node that scales or shifts its input; None for any other node."""
    if node.op_type in ("Identity", "Dropout"):
        return np.ones(())
    if node.op_type == "BatchNormalization" and axis == 1 and slot == 0:
        found = batch_norm_of(model, node)
        return None if found is None else found[0]
    if node.op_type in ("Add", "Mul") and len(node.inputs) == 2:
        constant = initializer_array(model, node.inputs[1 - slot])
        if constant is None or node.op_type == "Mul":
            return None if constant is None else per_channel(constant, outputs, behind)
        return np.ones(())
    return None


def _usable(scale: np.ndarray) -> bool:
    """Return whether all channels can compensate: a channel scaled to zero cannot."""
    return bool(np.all(np.abs(scale) > 1e-3 * max(float(np.abs(scale).max()), 1e-12)))


def _spatial(value: ir.Value | None) -> int:
    """Return the number of spatial axes of a convolution's output."""
    node = value.producer() if value is not None else None
    tensor = node.inputs[1].const_value if node is not None and node.inputs[1] is not None else None
    return len(tensor.shape) - 2 if tensor is not None else 0
