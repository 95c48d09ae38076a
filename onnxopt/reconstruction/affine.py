"""Constants that scale and shift the channels of a value."""

import numpy as np
import onnx_ir as ir


def initializer_array(model: ir.Model, value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer; None for all other values."""
    if value is None or value.name not in model.graph.initializers or value.const_value is None:
        return None
    return value.const_value.numpy()


def per_channel(constant: np.ndarray, outputs: int, behind: int) -> np.ndarray | None:
    """Return a broadcast constant as one number per channel, or one for all; None if it varies along another axis.

    Args:
        constant: a constant that is broadcast to a value.
        outputs: number of channels of the value.
        behind: number of axes after the channels.
    """
    if constant.size == 1:
        return constant.astype(np.float64).reshape(())
    matches = constant.size == outputs and constant.shape[-1 - behind :] == (outputs, *(1,) * behind)
    return constant.astype(np.float64).reshape(-1) if matches else None


def batch_norm_of(model: ir.Model, node: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the scale and shift per channel of a BatchNormalization; None if they are not constant."""
    arrays = [a.astype(np.float64) for v in node.inputs[1:5] if (a := initializer_array(model, v)) is not None]
    if len(arrays) < 4:
        return None
    gamma, beta, mean, variance = arrays
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale
