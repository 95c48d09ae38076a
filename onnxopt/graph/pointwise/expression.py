"""Expressions of one value: operators that compute each element from the same element and from constants."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from scipy import special

from onnxopt.graph.scales.reading import constant_numbers
from onnxopt.samples.core import Array

FUNCTIONS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "Abs": np.abs,
        "Add": np.add,
        "Div": np.divide,
        "Erf": special.erf,
        "Exp": np.exp,
        "Identity": lambda x: x,
        "Max": np.maximum,
        "Min": np.minimum,
        "Mul": np.multiply,
        "Neg": np.negative,
        "Pow": np.power,
        "Reciprocal": np.reciprocal,
        "Relu": lambda x: np.maximum(x, 0),
        "Sigmoid": special.expit,
        "Softplus": lambda x: np.logaddexp(x, 0),
        "Sqrt": np.sqrt,
        "Sub": np.subtract,
        "Tanh": np.tanh,
    }
)
"""Operators without attributes that count for their numbers, of one or two inputs."""


def is_pointwise(node: ir.Node) -> bool:
    """Return whether a node is one of these operators, with one or two inputs."""
    return (
        not node.domain
        and node.op_type in FUNCTIONS
        and len(node.outputs) == 1
        and 1 <= len(node.inputs) <= 2
        and all(value is not None for value in node.inputs)
    )


def computed(nodes: Sequence[ir.Node], given: Mapping[ir.Value, Array]) -> dict[ir.Value, Array]:
    """Return the values of pointwise nodes in order, from given ones and float32 constants, in float64.

    Raises:
        KeyError: a node reads a value that is neither given nor a constant.
    """
    known = dict(given)
    with np.errstate(all="ignore"):
        for node in nodes:
            inputs = [known[v] if v in known else _constant(v) for v in node.inputs if v is not None]
            known[node.outputs[0]] = np.asarray(FUNCTIONS[node.op_type](*inputs))
    return known


def _constant(value: ir.Value) -> Array:
    numbers = constant_numbers(value)
    if numbers is None:
        raise KeyError(value.name)
    return numbers


def between(first: ir.Value, last: ir.Value, most: int) -> list[ir.Node] | None:
    """Return the pointwise nodes that compute `last` from `first` and scalar constants alone, in order.

    None if other values are read, or more than `most` nodes.
    """
    ordered: list[ir.Node] = []
    seen: set[ir.Node] = set()

    def visit(value: ir.Value) -> bool:
        if value is first:
            return True
        numbers = constant_numbers(value)
        if numbers is not None:
            return numbers.size == 1 and numbers.ndim <= _rank(first)
        node = value.producer()
        if node is None or not is_pointwise(node):
            return False
        if node in seen:
            return True
        seen.add(node)
        if len(seen) > most or not all(visit(v) for v in node.inputs if v is not None):
            return False
        ordered.append(node)
        return True

    return ordered if visit(last) else None


def _rank(value: ir.Value) -> int:
    """Return the number of axes of a value; 0 where it is not known, as a constant must not add any."""
    return 0 if value.shape is None else len(value.shape)
