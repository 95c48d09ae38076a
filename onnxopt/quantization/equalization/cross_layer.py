"""Cross-layer equalization: shift of scale between two layers that makes the channels of both similarly large.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in
from onnxopt.measure.runtime.interrupt import raise_if_interrupted

_HOMOGENEOUS = frozenset(
    ["AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool", "Relu"]
)
"""Operators with f(s x) = s f(x) for s > 0, channel by channel."""

SWEEPS = 20
LARGEST_EXPONENT = 12


@dataclass(frozen=True)
class Chain:
    """Two layers: the second is the only reader of the first, through operators that commute with a scale."""

    first: ir.Node
    second: ir.Node


def chains(model: ir.Model) -> tuple[list[Chain], dict[str, str]]:
    """Return the chains of `model`, and the reasons for layers that start none."""
    found, refused = list[Chain](), dict[str, str]()
    for node in model.graph:
        if node.op_type not in ("Conv", "Gemm") or node.domain:
            continue
        reason = _unscalable(node) or _follow(node, found)
        if reason:
            refused[node.name or ""] = reason
    return found, refused


def equalize(found: list[Chain]) -> dict[str, np.ndarray]:
    """Scale both layers of every chain in place; return the exponent of two per channel, by first layer.

    Factors are powers of two, so that outputs do not change in any bit.
    """
    total = dict[str, np.ndarray]()
    for _ in range(SWEEPS):
        raise_if_interrupted()
        changed = False
        for chain in found:
            exponents = _exponents(chain)
            if exponents.any():
                changed = True
                name = chain.first.name or ""
                total[name] = total.get(name, 0) + exponents
                _scale(chain, np.exp2(exponents).astype(np.float32))
        if not changed:
            break
    return {name: exponents for name, exponents in total.items() if exponents.any()}


def _follow(node: ir.Node, found: list[Chain]) -> str:
    value = node.outputs[0]
    while True:
        uses = list(value.uses())
        if value.is_graph_output():
            return "its output is one of the model's"
        if len(uses) != 1 or uses[0].node.graph is not node.graph:
            return f"its output is read {len(uses)} times"
        reader, slot = uses[0]
        if reader.op_type in ("Conv", "Gemm") and not reader.domain and slot == 0:
            if reason := _unscalable(reader):
                return f"{reader.name}, which follows: {reason}"
            if reader.op_type != node.op_type and node.op_type == "Conv":
                return f"{reader.name}, which follows, reads other channels"
            found.append(Chain(node, reader))
            return ""
        if reader.op_type not in _HOMOGENEOUS or reader.domain:
            return f"{reader.op_type} follows, which does not pass on a scale"
        value = reader.outputs[0]


def _unscalable(node: ir.Node) -> str:
    for slot in (1, 2):
        value = node.inputs[slot] if slot < len(node.inputs) else None
        if value is None and slot == 2:
            continue
        if value is None or value.const_value is None or value.is_graph_input() or value.is_graph_output():
            return "its weights are not constant"
        if value.const_value.dtype is not ir.DataType.FLOAT:
            return "its weights are not float32"
        if len(value.uses()) != 1:
            return "its weights are shared"
        if slot == 2 and value.const_value.size != _outputs(node).shape[0]:
            return "its bias is not a vector"
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0:
        return "it reads its input transposed"
    return ""


def _array(node: ir.Node, slot: int) -> np.ndarray:
    return tensor_in(node.inputs[slot]).numpy()


def _turned(node: ir.Node) -> bool:
    """Return whether a Gemm's weight has its inputs along the first axis."""
    return node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)


def _outputs(node: ir.Node) -> np.ndarray:
    """Return the weights, the output channels along the first axis; a view."""
    return _array(node, 1).T if _turned(node) else _array(node, 1)


def _grouped(node: ir.Node) -> np.ndarray:
    """Return the weights with axes (group, outputs of a group, inputs of a group, kernel); a view."""
    weights, groups = _outputs(node), int(node.attributes.get_int("group", 1) or 1)
    return weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)


def _exponents(chain: Chain) -> np.ndarray:
    first = np.abs(_outputs(chain.first)).reshape(_outputs(chain.first).shape[0], -1).max(1)
    second = np.abs(_grouped(chain.second)).max((1, 3)).reshape(-1)
    exponents = np.zeros(len(first), np.int64)
    both = (first > 0) & (second > 0) & np.isfinite(first) & np.isfinite(second)
    exponents[both] = np.rint(np.log2(second[both].astype(np.float64) / first[both]) / 2)
    return np.clip(exponents, -LARGEST_EXPONENT, LARGEST_EXPONENT)


def _scale(chain: Chain, factors: np.ndarray) -> None:
    """Multiply the output channels of the first layer by `factors` and divide the inputs of the second by them."""
    for slot in _constants(chain.first):
        value, array = chain.first.inputs[slot], _array(chain.first, slot)
        assert value is not None
        axis = 1 if slot == 1 and _turned(chain.first) else array.ndim - 1 if slot == 2 else 0
        shape = [1] * array.ndim
        shape[axis] = len(factors)
        set_weight(value, array * factors.reshape(shape))
    weights = _grouped(chain.second)
    divided = (weights / factors.reshape(weights.shape[0], 1, weights.shape[2], 1)).reshape(
        _outputs(chain.second).shape
    )
    value = chain.second.inputs[1]
    assert value is not None
    set_weight(value, divided.T if _turned(chain.second) else divided)


def _constants(node: ir.Node) -> Iterator[int]:
    yield from (slot for slot in (1, 2) if slot < len(node.inputs) and node.inputs[slot] is not None)
