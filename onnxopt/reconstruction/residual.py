"""The other operand of a residual sum, whose error a layer can correct besides its own."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.reconstruction.affine import batch_norm_of, constant_of, per_channel


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
        model: where to look.
        y: name of a layer's output.
        outputs: its channels.
        axis: that they run along: 1 for convolutions, -1 for products.
    """
    values = {v.name: v for node in model.graph for v in node.outputs}
    value, scale = values.get(y), np.ones(())
    # Channels along axis 1 have as many axes behind them as the kernel has sizes.
    behind = _spatial(value) if axis == 1 else 0
    while value is not None:
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or uses[0][0].graph is not model.graph:
            return None
        node, slot = uses[0]
        if node.domain:
            return None
        other = node.inputs[1 - slot] if node.op_type in ("Add", "Mul") and len(node.inputs) == 2 else None
        if node.op_type in ("Add", "Mul"):
            if other is None:
                return None
            constant = constant_of(model, other)
            if constant is None:
                return Partner(other.name or "", scale) if node.op_type == "Add" and _usable(scale) else None
            if node.op_type == "Mul":
                factor = per_channel(constant, outputs, behind)
                if factor is None:
                    return None
                scale = scale * factor
        elif node.op_type == "BatchNormalization" and axis == 1 and slot == 0:
            found = batch_norm_of(model, node)
            if found is None:
                return None
            scale = scale * found[0]
        elif node.op_type not in ("Identity", "Dropout"):
            return None
        value = node.outputs[0]
    return None


def _usable(scale: np.ndarray) -> bool:
    """A channel scaled to zero cannot compensate."""
    return bool(np.all(np.abs(scale) > 1e-3 * max(float(np.abs(scale).max()), 1e-12)))


def _spatial(value: ir.Value | None) -> int:
    """Return the number of spatial axes of what a convolution puts out."""
    node = value.producer() if value is not None else None
    tensor = node.inputs[1].const_value if node is not None and node.inputs[1] is not None else None
    return len(tensor.shape) - 2 if tensor is not None else 0
