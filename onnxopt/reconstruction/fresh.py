"""Initial weights, as before training.

Sources: He et al., "Delving deep into rectifiers", ICCV 2015, for convolutions; LeCun et al., "Efficient backprop",
1998, for products and recurrent layers.
"""

from math import prod, sqrt

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in

_NORMS = ("BatchNormalization", "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization")
_RECURRENT = ("LSTM", "GRU", "RNN")
_PRODUCTS = ("Gemm", "MatMul")
_NORM_VALUES = (None, 1.0, 0.0, 0.0, 1.0)
"""Initial inputs of a normalization: scale, offset, running mean and variance."""


def reinitialize(model: ir.Model, seed: int) -> int:
    """Give the layers of the main graph new weights in place; return how many initializers changed.

    Matrices and filters are drawn anew, biases become 0, normalizations get scale 1 and offset 0. Embeddings keep their
    standard deviation. Other constants may be part of the function and are unchanged.
    """
    rng, done = np.random.default_rng(seed), set[str]()
    for node in model.graph:
        for slot, value in enumerate(node.inputs):
            name = value.name if value is not None else None
            if value is None or name is None or name in done or model.graph.initializers.get(name) is not value:
                continue
            if not value.dtype or not value.dtype.is_floating_point():
                continue
            new = _fresh(node, slot, tensor_in(value).numpy(), rng)
            if new is not None:
                set_weight(value, new)
                done.add(name)
    return len(done)


def _fresh(node: ir.Node, slot: int, old: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return new values for input `slot` of `node`; None if it is not the weight of a layer."""
    kind = node.op_type
    if kind in _NORMS:
        value = _NORM_VALUES[slot] if slot < len(_NORM_VALUES) else None
        return None if value is None else np.full_like(old, value)
    if _is_bias(node, slot):
        return np.zeros_like(old)
    deviation = _deviation(node, slot, old)
    if deviation is None:
        return None
    return np.asarray((deviation * rng.standard_normal(old.shape)).astype(old.dtype))


def _is_bias(node: ir.Node, slot: int) -> bool:
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return slot == 2
    if node.op_type in _RECURRENT:
        return slot == 3
    if node.op_type == "Add":
        other = node.inputs[1 - slot]
        producer = other.producer() if other is not None else None
        return producer is not None and producer.op_type in ("MatMul", "Conv", "ConvTranspose")
    return False


def _deviation(node: ir.Node, slot: int, old: np.ndarray) -> float | None:
    kind, shape = node.op_type, old.shape
    if kind == "Conv" and slot == 1:
        return sqrt(2 / prod(shape[1:]))
    if kind == "ConvTranspose" and slot == 1:
        return sqrt(2 * node.attributes.get_int("group", 1) * shape[1] / prod(shape))
    if kind in _PRODUCTS and slot < 2 and len(shape) > 1:
        turned = kind == "Gemm" and bool(node.attributes.get_int("transB" if slot else "transA", 0))
        summed = shape[-2] if slot else shape[-1]
        if turned:
            summed = shape[-1] if slot else shape[-2]
        return sqrt(1 / summed)
    if kind in _RECURRENT and slot in (1, 2):
        return sqrt(1 / shape[-1])
    if kind == "Gather" and slot == 0 and len(shape) > 1:
        return float(old.std())
    return None
