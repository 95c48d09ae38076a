"""SmoothQuant: activation outliers are moved into the weights that read them.

Xiao et al., "SmoothQuant: accurate and efficient post-training quantization for large language models", ICML 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in

LARGEST_EXPONENT = 12


@dataclass(frozen=True)
class Operand:
    """A constant to scale: its reading node and slot, and the axis of its channels."""

    node: ir.Node
    slot: int
    axis: int

    @property
    def array(self) -> np.ndarray:
        """The array of the constant."""
        return tensor_in(self.node.inputs[self.slot]).numpy()

    def scale(self, factors: np.ndarray) -> None:
        """Multiply each channel by its factor."""
        value, array = self.node.inputs[self.slot], self.array
        assert value is not None
        shape = [1] * array.ndim
        shape[self.axis] = len(factors)
        set_weight(value, array * factors.reshape(shape))


@dataclass(frozen=True)
class Smoothable:
    """One activation: the constants of its writer, and the weights of the products that are its only readers."""

    value: ir.Value
    writers: tuple[Operand, ...]
    readers: tuple[Operand, ...]


def smoothables(model: ir.Model) -> tuple[list[Smoothable], dict[str, str]]:
    """Return the activations that can be smoothed, and reasons for the other inputs of products, by product."""
    found, refused = dict[ir.Value, Smoothable](), dict[str, str]()
    for node in model.graph:
        if node.op_type not in ("MatMul", "Gemm") or node.domain or _weight(node) is None or node.inputs[0] is None:
            continue
        value = node.inputs[0]
        if value in found:
            continue
        readers = [(_weight(use.node) if use.idx == 0 else None, use.node) for use in value.uses()]
        other = next((reader.op_type for operand, reader in readers if operand is None), None)
        writers = _writers(value)
        operands = tuple(operand for operand, _ in readers if operand is not None)
        if value.is_graph_output():
            refused[node.name or ""] = "its input is one of the model's outputs"
        elif other is not None:
            refused[node.name or ""] = f"its input is read by {other} too, which takes no scale"
        elif isinstance(writers, str):
            refused[node.name or ""] = writers
        elif len({o.array.shape[o.axis] for o in (*operands, *writers)}) != 1:
            refused[node.name or ""] = "the constants around it differ in width"
        else:
            found[value] = Smoothable(value, writers, operands)
    return list(found.values()), refused


def smooth(found: Smoothable, largest: np.ndarray, alpha: float) -> np.ndarray:
    """Divide the activation and multiply the weights in place; return the exponent of two per channel.

    Factors are powers of two, so that outputs do not change in any bit.

    Args:
        found: the activation to smooth.
        largest: largest magnitude per channel of the activation.
        alpha: share of the difficulty that moves to the weights, 0..1.
    """
    weights = np.max([np.abs(np.moveaxis(o.array, o.axis, 0)).max(1) for o in found.readers], axis=0)
    exponents = np.zeros(len(largest), np.int64)
    both = (largest > 0) & (weights > 0) & np.isfinite(largest) & np.isfinite(weights)
    exponents[both] = np.rint(alpha * np.log2(largest[both]) - (1 - alpha) * np.log2(weights[both]))
    # A common scale of all channels has no effect.
    exponents[both] -= int(np.median(exponents[both])) if both.any() else 0
    exponents = np.clip(exponents, -LARGEST_EXPONENT, LARGEST_EXPONENT)
    factors = np.exp2(exponents).astype(np.float32)
    for operand in found.writers:
        operand.scale(1 / factors)
    for operand in found.readers:
        operand.scale(factors)
    return exponents


def _weight(node: ir.Node) -> Operand | None:
    """Return the weight of a product with a constant, along its inputs."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain or not _own(node, 1, 2):
        return None
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0:
        return None
    turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
    return Operand(node, 1, 1 if turned else 0)


def _writers(value: ir.Value) -> tuple[Operand, ...] | str:
    """Return the constants that scale `value`, or the reason why there are none."""
    node = value.producer()
    if node is None:
        return "its input is one of the model's"
    if node.op_type == "Relu" and not node.domain and node.inputs[0] is not None:
        before = node.inputs[0]
        if len(before.uses()) != 1 or before.is_graph_output():
            return "what comes before its Relu is read elsewhere too"
        return _writers(before)
    if node.op_type == "LayerNormalization":
        slots = [slot for slot in (1, 2) if slot < len(node.inputs) and node.inputs[slot] is not None]
        if len(node.outputs) == 1 and all(_own(node, slot, 1) for slot in slots):
            return tuple(Operand(node, slot, 0) for slot in slots)
        return "the constants of the LayerNormalization before it are shared"
    if node.op_type in ("Mul", "Gemm", "MatMul") and not node.domain:
        return _scaled(node)
    if node.op_type == "Add" and not node.domain:
        slot = next((s for s in (0, 1) if _own(node, s, 1)), None)
        product = None if slot is None else node.inputs[1 - slot]
        producer = None if product is None else product.producer()
        if slot is None or product is None or producer is None or len(product.uses()) != 1 or product.is_graph_output():
            return "Add before it takes no scale"
        inner = _scaled(producer)
        return inner if isinstance(inner, str) else (*inner, Operand(node, slot, 0))
    return f"{node.op_type} before it takes no scale"


def _scaled(node: ir.Node) -> tuple[Operand, ...] | str:
    """Return the constants of a product, along its outputs."""
    if node.op_type == "Mul":
        slot = next((s for s in (0, 1) if _own(node, s, 1)), None)
        return "Mul before it takes no scale" if slot is None else (Operand(node, slot, 0),)
    if node.op_type in ("Gemm", "MatMul") and _own(node, 1, 2):
        turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
        weight = Operand(node, 1, 0 if turned else 1)
        if len(node.inputs) < 3 or node.inputs[2] is None:
            return (weight,)
        return (weight, Operand(node, 2, 0)) if _own(node, 2, 1) else "the bias before it is shared or no vector"
    return f"{node.op_type} before it takes no scale"


def _own(node: ir.Node, slot: int, rank: int) -> bool:
    """Return whether an input is a float constant of that rank with no other reader."""
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None or value.const_value is None or value.is_graph_input() or value.is_graph_output():
        return False
    tensor = value.const_value
    return tensor.dtype is ir.DataType.FLOAT and tensor.shape.rank() == rank and len(value.uses()) == 1


def largest_by_channel(arrays: Mapping[str, np.ndarray], known: dict[str, np.ndarray]) -> None:
    """Update the largest magnitude per channel, the last axis, in `known` with further arrays."""
    for name, array in arrays.items():
        now = np.abs(array).reshape(-1, array.shape[-1]).max(0, initial=0)
        known[name] = np.maximum(known.get(name, 0), now)
