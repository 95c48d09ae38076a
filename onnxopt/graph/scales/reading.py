"""Constants and readers of values."""

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of


def constant_numbers(value: ir.Value | None) -> np.ndarray | None:
    """Return a finite float32 constant as float64; None for anything else."""
    tensor = constant_of(value)
    if tensor is None or tensor.dtype is not ir.DataType.FLOAT:
        return None
    array = tensor.numpy().astype(np.float64)
    return array if np.isfinite(array).all() else None


def scalar_of(value: ir.Value | None) -> float | None:
    """Return a float32 constant of one element without axes, or with one; None for anything else."""
    array = constant_numbers(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.ndim <= 1 else None


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the node that alone reads a value, once; None for an output of the graph or other numbers of readers."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
