"""Caches of keys and values in integers, as ONNX Runtime's GroupQueryAttention reads and writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import name_nodes, set_weight

_KEYS, _VALUES = 3, 4
"""Inputs of the node for the cache."""
_SCALES = {_KEYS: 12, _VALUES: 13}
_TYPES = {8: ir.DataType.INT8, 4: ir.DataType.UINT8}
_LARGEST = {8: 127.0, 4: 7.0}


@dataclass(frozen=True)
class Cache:
    """Keys or values in the cache of one node.

    Attributes:
        node: name of the node.
        slot: number of the node's input.
        past: input of the model.
        present: output of the model that it takes in the next step.
    """

    node: str
    slot: int
    past: str
    present: str


def float_caches(model: ir.Model) -> tuple[Cache, ...]:
    """Return the caches in float32 of nodes GroupQueryAttention that a caller keeps between steps."""
    found = list[Cache]()
    for node in _named(model).graph:
        if node.op_type != "GroupQueryAttention" or len(node.outputs) <= _VALUES - 2:
            continue
        pairs = [(slot, node.inputs[slot], node.outputs[slot - 2]) for slot in (_KEYS, _VALUES)]
        if all(past is not None and _is_kept(past, present) for _, past, present in pairs):
            name = node.name or ""
            found += [Cache(name, slot, past.name or "", present.name or "") for slot, past, present in pairs if past]
    return tuple(found)


def _named(model: ir.Model) -> ir.Model:
    copy = model.clone()
    name_nodes(copy)
    return copy


def _is_kept(past: ir.Value, present: ir.Value) -> bool:
    alone = len(past.uses()) == 1 and not present.uses()
    return alone and past.is_graph_input() and present.is_graph_output() and past.dtype is ir.DataType.FLOAT


def with_integer_caches(model: ir.Model, largest: Mapping[str, np.ndarray], bits: int) -> ir.Model:
    """Return a copy whose caches are integers, with a scale for each channel; the caller gives and takes integers.

    8 bits are int8. 4 bits are two in one byte (uint8), so that the last axis has half of the size.

    Args:
        model: the input model (not modified).
        largest: the largest magnitudes of each cache by its output, shape (heads, size of a head).
        bits: 8 or 4.
    """
    work, caches = _named(model), float_caches(model)
    nodes = {node.name: node for node in work.graph}
    for cache in caches:
        node = nodes[cache.node]
        scale = np.maximum(largest[cache.present].reshape(-1) / _LARGEST[bits], 1e-8).astype(np.float32)
        value = ir.Value(name=f"{cache.past}_scale")
        set_weight(value, scale)
        work.graph.register_initializer(value)
        if len(node.inputs) <= _SCALES[cache.slot]:
            node.resize_inputs(_SCALES[cache.slot] + 1)
        node.replace_input_with(_SCALES[cache.slot], value)
        role = "k" if cache.slot == _KEYS else "v"
        node.attributes[f"{role}_quant_type"] = ir.AttrString(f"{role}_quant_type", "PER_CHANNEL")
        node.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", bits)
        _retype((node.inputs[cache.slot], node.outputs[cache.slot - 2]), bits)
    return work


def _retype(values: Sequence[ir.Value | None], bits: int) -> None:
    for value in values:
        assert value is not None
        value.type = ir.TensorType(_TYPES[bits])
        if value.shape is not None and bits == 4:
            *rest, size = value.shape
            value.shape = ir.Shape([*rest, size // 2 if isinstance(size, int) else None])
