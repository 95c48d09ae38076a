"""Ranges without the ends at which the functions that read a tensor are flat, such as below -6 before SiLU.

The 256 levels of a tensor are shared by all its values. Values that end at the same level behind an activation function
need one level together, and the others get finer ones: of a range from -24 to 19 before SiLU two fifths are cut.
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from scipy import special

from onnxopt.graph.pointwise.expression import FUNCTIONS
from onnxopt.graph.pointwise.functions import behind
from onnxopt.graph.scales.reading import constant_numbers
from onnxopt.quantization.calibration.histogram import LEVELS, Range
from onnxopt.samples.core import Array

_POINTS = 4097
_SHARE = 1 / 4
"""Largest change of a result, as a share of a level: one that is rounded to another level would shift a whole tail."""


def _hard_sigmoid(node: ir.Node, x: Array) -> Array:
    alpha, beta = (node.attributes.get_float(name, value) for name, value in (("alpha", 0.2), ("beta", 0.5)))
    return np.asarray(np.clip(alpha * x + beta, 0, 1))


_BOUNDED: Mapping[str, Callable[[ir.Node, Array], Array]] = MappingProxyType(
    {
        "Erf": lambda node, x: special.erf(x),
        "Gelu": lambda node, x: x * special.ndtr(x),  # its tanh form differs by less than 0.001
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": lambda node, x: x * np.clip(x / 6 + 0.5, 0, 1),
        "Mish": lambda node, x: x * np.tanh(np.logaddexp(x, 0)),
        "Sigmoid": lambda node, x: special.expit(x),
        "Softplus": lambda node, x: np.logaddexp(x, 0),
        "Swish": lambda node, x: x * special.expit(node.attributes.get_float("alpha", 1.0) * x),
        "Tanh": lambda node, x: np.tanh(x),
    }
)
"""Operators that are flat at an end."""
_JOINING = ("Add", "Div", "Mul", "Sub")
"""Operators of one or two values that may follow them, such as the product of SiLU."""


def without_flat_ends(model: ir.Model, ranges: Mapping[str, Range], levels: int = LEVELS) -> dict[str, Range]:
    """Return ranges of which ends are cut that change no result by more than a quarter of its level.

    Args:
        model: the float model.
        ranges: ranges by name of the tensor.
        levels: number of levels of a range.
    """
    found = dict(ranges)
    for value in (*model.graph.inputs, *(value for node in model.graph for value in node.outputs)):
        known = ranges.get(value.name or "")
        if known is not None and any(user.op_type in _BOUNDED for user, _ in value.uses()):
            found[value.name or ""] = _cut(value, known, levels)
    return found


def _cut(value: ir.Value, known: Range, levels: int) -> Range:
    grid = np.linspace(known.low, known.high, _POINTS)
    results = _results(value, grid)
    ends = [_steep(grid, result, levels) for result in results]
    if not ends:
        return known
    lows, highs = zip(*ends, strict=True)
    return Range.around_zero(min(lows), max(highs))


def _steep(grid: Array, result: Array, levels: int) -> tuple[float, float]:
    """Return the ends of the part of `grid` outside which `result` stays within a quarter of a level."""
    if not np.isfinite(result).all():
        return grid[0], grid[-1]
    allowed = (max(result.max(), 0.0) - min(result.min(), 0.0)) / (levels - 1) * _SHARE
    first = _flat(result, allowed)
    last = _flat(result[::-1], allowed)
    return (grid[first], grid[-1 - last]) if first + last < len(grid) else (0.0, 0.0)


def _flat(result: Array, allowed: float) -> int:
    """Return the last place of the flat begin of `result`."""
    above, below = np.maximum.accumulate(result) - result, result - np.minimum.accumulate(result)
    moved = np.flatnonzero((above > allowed) | (below > allowed))
    return int(moved[0]) - 1 if len(moved) else len(result) - 1


def _results(value: ir.Value, grid: Array) -> list[Array]:
    """Return the functions of `value` that other nodes read, at the points of `grid`; none if they read it itself."""
    nodes, read = behind(value, _follows)
    known = {value: grid}
    for node in nodes:
        known[node.outputs[0]] = _computed(node, known)
    return [] if value in read else [known[v] for v in read]


def _follows(node: ir.Node, known: Collection[ir.Value]) -> bool:
    """Return whether a node is a function of known values and of single numbers alone."""
    if node.domain or node.op_type not in (*_BOUNDED, *_JOINING) or len(node.outputs) != 1:
        return False
    if node.op_type == "Div" and node.inputs[1] in known:
        return False  # it may be zero between two points
    return all(v in known or (v is not None and _number(v) is not None) for v in node.inputs)


def _computed(node: ir.Node, known: Mapping[ir.Value, Array]) -> Array:
    inputs = [known[v] if v in known else _number(v) for v in node.inputs if v is not None]
    with np.errstate(all="ignore"):
        if node.op_type in _BOUNDED:
            return np.asarray(_BOUNDED[node.op_type](node, np.asarray(inputs[0])))
        return np.asarray(FUNCTIONS[node.op_type](*inputs))


def _number(value: ir.Value) -> Array | None:
    numbers = constant_numbers(value)
    return numbers.reshape(()).astype(np.float64) if numbers is not None and numbers.size == 1 else None
