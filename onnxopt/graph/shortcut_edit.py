"""Shortcuts of residual networks without weights, as one convolution.

        Slice (every second row) - Slice (every second column) - Pad (channels)   ->   Conv (1 x 1, stride 2)

A residual network that doubles its channels with nothing to learn beside them (option A in He et al. 2016, "Deep
Residual Learning for Image Recognition", section 3.3) drops pixels and adds channels of zeros. ONNX Runtime leaves its
blocked layout around those operators, and integers too; a convolution with weights of 0 and 1 stays in both.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.scales.reading import only_user, scalar_of

MOST_CHANNELS = 128
"""Channels up to which the convolution is the faster form; its work grows with their square."""

_CHANNELS = 1


@dataclass(frozen=True)
class _Shortcut:
    """Strides over the axes of the input, and channels of zeros before and behind its own."""

    source: ir.Value
    strides: tuple[int, ...]
    before: int
    behind: int


def write_shortcuts(model: ir.Model) -> list[str]:
    """Replace shortcuts of the main graph in place, and return the names of their last nodes.

    Values are equal where the input is finite: infinity times a weight of zero is not a number. Shapes must be known.
    """
    writer, names = NodeWriter(model, "shortcut"), list[str]()
    for node in list(model.graph):
        found = _found(node)
        if found is None:
            continue
        writer.anchor = node
        result = _convolution(writer, found)
        names.append(node.name or node.outputs[0].name or "")
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [], list(node.outputs), [result])
    if names:
        common.RemoveUnusedNodesPass()(model)
    return names


def _found(pad: ir.Node) -> _Shortcut | None:
    if pad.op_type != "Pad" or pad.domain or pad.attributes.get_string("mode", "constant") != "constant":
        return None
    added = _zeros_around(pad)
    value, strides = pad.inputs[0], dict[int, int]()
    while value is not None and (steps := _steps(value.producer())) is not None and only_user(value) is not None:
        if strides.keys() & steps.keys():
            return None
        strides |= steps
        node = value.producer()
        value = None if node is None else node.inputs[0]
    if added is None or not strides or value is None or value.shape is None or value.dtype is not ir.DataType.FLOAT:
        return None
    rank, channels = len(value.shape), value.shape[_CHANNELS] if len(value.shape) > _CHANNELS else None
    if not isinstance(channels, int) or not 0 < channels <= MOST_CHANNELS or rank not in (3, 4, 5):
        return None
    before, behind = added[:rank], added[rank:]
    if len(added) != 2 * rank or np.delete(added, [_CHANNELS, rank + _CHANNELS]).any() or min(added) < 0:
        return None
    if min(strides) <= _CHANNELS:
        return None
    return _Shortcut(value, tuple(strides.get(axis, 1) for axis in range(2, rank)), before[1], behind[1])


def _zeros_around(pad: ir.Node) -> tuple[int, ...] | None:
    """Return the numbers of zeros before and behind each axis; None where they are not known, or not zeros."""
    if len(pad.inputs) == 1:
        stated = pad.attributes.get_ints("pads")
        return None if stated is None or pad.attributes.get_float("value") else tuple(stated)
    given = [*pad.inputs, None, None]
    if given[3] is not None or (given[2] is not None and scalar_of(given[2]) != 0):
        return None
    return _whole(given[1])


def _steps(node: ir.Node | None) -> dict[int, int] | None:
    """Return the step over each axis of a Slice that drops nothing but the elements between; None for other nodes."""
    if node is None or node.op_type != "Slice" or node.domain or len(node.inputs) != 5 or node.inputs[0] is None:
        return None
    shape = node.inputs[0].shape
    starts, ends, axes, steps = (_whole(value) for value in node.inputs[1:])
    if shape is None or starts is None or ends is None or axes is None or steps is None or any(starts):
        return None
    if any(not -len(shape) <= axis < len(shape) for axis in axes) or min(steps) < 1:
        return None
    sizes = [shape[axis] for axis in axes]
    whole = all(end >= (size if isinstance(size, int) else 2**31 - 1) for end, size in zip(ends, sizes, strict=True))
    return {axis % len(shape): step for axis, step in zip(axes, steps, strict=True)} if whole else None


def _whole(value: ir.Value | None) -> tuple[int, ...] | None:
    tensor = constant_of(value)
    if tensor is None or tensor.dtype not in (ir.DataType.INT32, ir.DataType.INT64) or tensor.size == 0:
        return None
    return tuple(int(number) for number in tensor.numpy().ravel())


def _convolution(writer: NodeWriter, found: _Shortcut) -> ir.Value:
    channels = found.source.shape[_CHANNELS] if found.source.shape is not None else 0
    assert isinstance(channels, int)
    weight = np.zeros((found.before + channels + found.behind, channels, *(1 for _ in found.strides)), np.float32)
    weight[found.before + np.arange(channels), np.arange(channels)] = 1
    kernel = [1] * len(found.strides)
    chosen = writer.constant(weight, np.float32)
    return writer("Conv", found.source, chosen, kernel_shape=kernel, strides=found.strides)
