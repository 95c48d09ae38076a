"""Data-movement nodes, executed on numbers that stand for positions."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from onnxopt.graph.cost import Shape
from onnxopt.graph.probe import Probe

Probes = tuple[Probe, Probe]
_REGROUPED = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
_MOVES = (*_REGROUPED, "Identity", "Dropout", "Transpose", "Expand", "Tile", "Split", "Slice", "Gather", "Cast")


def moves(node: ir.Node | None) -> bool:
    """Return whether the operator of a node can be one that only moves the elements of its first input."""
    if node is None or node.domain or node.op_type not in _MOVES or node.inputs[0] is None:
        return False
    if node.op_type == "Cast":
        return node.inputs[0].dtype is not None and node.inputs[0].dtype == node.outputs[0].dtype
    return node.op_type != "Dropout" or len(node.inputs) < 3 or node.inputs[2] is None


def moved(output: ir.Value, array: np.ndarray, probe: Probe) -> np.ndarray | None:
    """Return the result of a node with `array` as its first input; None when it is unknown.

    Args:
        output: the output of a data-movement node.
        array: integers that number the positions of the first input.
        probe: shapes and indices at one choice of the dynamic sizes.
    """
    node = output.producer()
    shape = probe.shapes.get(output.name or "")
    assert node is not None
    if shape is None:
        return None
    if node.op_type in ("Identity", "Dropout", "Cast"):
        return array
    if node.op_type in _REGROUPED:
        return array.reshape(shape)
    if node.op_type == "Expand":
        return np.broadcast_to(array, shape)
    if node.op_type == "Transpose":
        given = node.attributes.get("perm")
        return array.transpose(given.as_ints() if given is not None else None)
    try:
        return _PICKS[node.op_type](node, output, array, probe)
    except KeyError:  # an unknown index or size
        return None


def scalar(value: ir.Value | None, probes: Probes) -> float | None:
    """Return the number that a value holds at all sizes; None when it holds several, or varies with a size."""
    if value is None:
        return None
    known = [probe.values.get(value.name or "") for probe in probes]
    numbers = [float(array.reshape(-1)[0]) for array in known if array is not None and array.size == 1]
    return numbers[0] if len(numbers) == 2 and numbers[0] == numbers[1] else None


def factor(node: ir.Node | None, probes: Probes) -> tuple[ir.Value, float] | None:
    """Return the input that a node multiplies by a constant, and the constant; None for another node."""
    if node is None or node.domain or node.op_type not in ("Mul", "Div", "Add"):
        return None
    for slot in (0, 1) if node.op_type != "Div" else (1,):
        number, value = scalar(node.inputs[slot], probes), node.inputs[1 - slot]
        if number is None or value is None or not same_shape(value, node.outputs[0], probes):
            continue
        if node.op_type == "Add":
            if number == 0:
                return value, 1.0
        elif number:
            return value, number if node.op_type == "Mul" else 1 / number
    return None


def same_shape(one: ir.Value, other: ir.Value, probes: Probes) -> bool:
    """Return whether two values are known to have the same shape."""
    pairs = [(probe.shapes.get(one.name or ""), probe.shapes.get(other.name or "")) for probe in probes]
    return all(a is not None and a == b for a, b in pairs)


def _known(node: ir.Node, slot: int, probe: Probe) -> np.ndarray:
    value = node.inputs[slot] if slot < len(node.inputs) else None
    return probe.values[value.name or "" if value is not None else ""]


def _split(node: ir.Node, output: ir.Value, array: np.ndarray, probe: Probe) -> np.ndarray:
    axis = _axis(node, array.shape)
    sizes = [probe.shapes[value.name or ""][axis] for value in node.outputs]
    return np.split(array, np.cumsum(sizes)[:-1], axis)[list(node.outputs).index(output)]


def _slice(node: ir.Node, output: ir.Value, array: np.ndarray, probe: Probe) -> np.ndarray:
    del output
    starts, ends = (_known(node, slot, probe).reshape(-1).tolist() for slot in (1, 2))
    given = [node.inputs[slot] if slot < len(node.inputs) else None for slot in (3, 4)]
    axes = range(len(starts)) if given[0] is None else _known(node, 3, probe).reshape(-1).tolist()
    steps = [1] * len(starts) if given[1] is None else _known(node, 4, probe).reshape(-1).tolist()
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        size = array.shape[axis]
        stop = last if last >= -size or step > 0 else None
        array = array.take(range(size)[first:stop:step], axis)
    return array


def _gather(node: ir.Node, output: ir.Value, array: np.ndarray, probe: Probe) -> np.ndarray:
    del output
    return array.take(_known(node, 1, probe), _axis(node, array.shape))


def _tile(node: ir.Node, output: ir.Value, array: np.ndarray, probe: Probe) -> np.ndarray:
    del output
    return np.tile(array, _known(node, 1, probe).reshape(-1).tolist())


def _axis(node: ir.Node, shape: Shape) -> int:
    return node.attributes.get_int("axis", 0) % len(shape)


_PICKS: Mapping[str, Callable[[ir.Node, ir.Value, np.ndarray, Probe], np.ndarray]] = MappingProxyType(
    {"Split": _split, "Slice": _slice, "Gather": _gather, "Tile": _tile}
)
