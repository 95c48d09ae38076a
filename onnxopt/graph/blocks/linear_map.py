"""A linear map of the skip connection in the place of a residual block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.blocks.cut import drop_needless, take_name
from onnxopt.graph.blocks.find import Block
from onnxopt.graph.edit import set_weight


@dataclass(frozen=True)
class Site:
    """The values around a residual block: `total` = `source` + the block.

    Attributes:
        block: name of the block.
        source: name of the skip connection.
        total: name of the sum.
        axis: axis of the channels, 1 or -1.
        dtype: element type of all three.
    """

    block: str
    source: str
    total: str
    axis: int
    dtype: ir.DataType


@dataclass(frozen=True)
class LinearMap:
    """The map y = weight @ x + offset along the channels of a value of `rank` axes.

    Attributes:
        weight: shape (C, C), or (C,) for a factor per channel.
        offset: shape (C,).
    """

    weight: np.ndarray
    offset: np.ndarray
    rank: int


def site_of(model: ir.Model, block: Block) -> Site | None:
    """Return the site of a block; None if it is no operand of a plain sum of two."""
    end = next(v for node in model.graph for v in node.outputs if v.name == block.end)
    uses = list(end.uses())
    if block.slot is not None or len(uses) != 1 or end.is_graph_output():
        return None
    total, slot = uses[0]
    if total.op_type not in ("Add", "Sum") or total.domain or len(total.inputs) != 2:
        return None
    source = total.inputs[1 - slot]
    if source is None:
        return None
    kinds = {node.op_type for node in model.graph if node.name in block.layers}
    axis = 1 if kinds & {"Conv", "ConvTranspose"} else -1
    return Site(block.name, source.name or "", total.outputs[0].name or "", axis, block.dtype)


def with_maps(model: ir.Model, maps: Sequence[tuple[Site, LinearMap]]) -> ir.Model:
    """Return a copy of `model` with linear maps in the place of blocks; sums keep their names."""
    result = model.clone()
    used = {name for name, value in result.graph.initializers.items() if value.uses()}
    for site, linear in maps:
        values = {v.name: v for v in (*result.graph.inputs, *(v for n in result.graph for v in n.outputs))}
        old = values[site.total]
        before = old.producer()
        assert before is not None
        nodes = _nodes(result, site, linear, values[site.source])
        result.graph.insert_before(before, nodes)
        take_name(result.graph, old, nodes[-1].outputs[0])
    drop_needless(result, used)
    return result


def _nodes(model: ir.Model, site: Site, linear: LinearMap, source: ir.Value) -> list[ir.Node]:
    size, behind = len(linear.offset), linear.rank - 2 if site.axis == 1 else 0
    per_channel = (size, *(1,) * behind)

    def weight(part: str, array: np.ndarray) -> ir.Value:
        value = ir.Value(name=f"{site.total}.{part}")
        set_weight(value, np.ascontiguousarray(array).astype(site.dtype.numpy()))
        model.graph.register_initializer(value)
        return value

    def node(op_type: str, *inputs: ir.Value) -> ir.Node:
        made = ir.Node("", op_type, inputs, name=f"{site.total}.{op_type.lower()}")
        made.outputs[0].name = f"{made.name}.out"
        return made

    if linear.weight.ndim == 1:
        first = node("Mul", source, weight("scale", linear.weight.reshape(per_channel)))
    elif behind:
        kernel = weight("weight", linear.weight.reshape(size, size, *(1,) * behind))
        return [node("Conv", source, kernel, weight("bias", linear.offset))]
    else:
        first = node("MatMul", source, weight("weight", linear.weight.T))
    return [first, node("Add", first.outputs[0], weight("offset", linear.offset.reshape(per_channel)))]
