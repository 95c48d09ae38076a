"""The value side of attention: from a Softmax through the product with the values to the result."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.attention.moves import Probes, moved, moves, scalar
from onnxopt.graph.attention.product import Product, product_of
from onnxopt.graph.attention.scores import UnknownAttention, batch_of
from onnxopt.graph.probe import Probe

_PRODUCTS = ("MatMul", "Einsum")


@dataclass(frozen=True)
class ResultTarget:
    """A value that holds the result.

    Attributes:
        apart: the layout is (batch, heads, time, size); else (batch, time, width) in two to four axes.
        time_first: the layout is (time, batch, width).
    """

    value: ir.Value
    rank: int
    apart: bool
    time_first: bool


@dataclass(frozen=True)
class Weighted:
    """The product of weights and values.

    Attributes:
        product: its left input holds the weights.
        cleared: whether queries that see no key give 0, not NaN.
    """

    product: Product
    cleared: bool


def is_weighing(softmax: ir.Node) -> bool:
    """Return whether a product reads the output of a Softmax, directly or through data movement."""
    value = softmax.outputs[0]
    for _ in range(8):
        readers = [node for node, _ in _readers(value)]
        if any(node.op_type in _PRODUCTS and not node.domain for node in readers):
            return True
        onward = [node for node in readers if moves(node) or node.op_type == "Where"]
        if not onward:
            return False
        value = onward[0].outputs[0]
    return False


def weighted_by(softmax: ir.Node, probes: Probes) -> Weighted:
    """Return the product that reads the weights.

    Raises:
        UnknownAttention: another node reads the weights too, or the product reads them in another order.
    """
    path, cleared = [softmax.outputs[0]], False
    while True:
        value = path[-1]
        readers = _readers(value)
        guarded = _cleared(value, readers, probes)
        if guarded is not None:
            path.append(guarded)
            cleared = True
            continue
        if len(readers) != 1 or value.is_graph_output():
            raise UnknownAttention("its weights are read elsewhere too")
        node, slot = readers[0]
        if node.op_type in _PRODUCTS and not node.domain:
            return Weighted(_product(node, slot, path, probes), cleared)
        if slot or not moves(node):
            raise UnknownAttention(f"its weights go through {node.op_type} {node.name}")
        path.append(node.outputs[0])


def targets_of(product: Product, heads: int, probes: Probes) -> tuple[ResultTarget, ...]:
    """Return the values that hold the result, the one that needs the fewest nodes first."""
    value = product.node.outputs[0]
    arrays = [product.numbered(*batch_of(product, probe)) for probe in probes]
    found = list[ResultTarget]()
    while True:
        sizes = [batch_of(product, probe) for probe in probes]
        read = [
            _places(array, int(np.prod(batch)) // heads, heads, rows, columns)
            for array, (batch, rows, columns) in zip(arrays, sizes, strict=True)
        ]
        found += [
            ResultTarget(value, arrays[0].ndim, *kind) for kind in read[0] if all(kind in other for other in read)
        ]
        readers = _readers(value)
        if value.is_graph_output() or len(readers) != 1 or readers[0][1] or not moves(readers[0][0]):
            break
        value = readers[0][0].outputs[0]
        further = [moved(value, array, probe) for array, probe in zip(arrays, probes, strict=True)]
        if any(array is None for array in further):
            break
        arrays = [array for array in further if array is not None]
    return tuple(sorted(found, key=lambda t: (t.time_first, t.rank != 3)))


def _readers(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Return the nodes that read a value; those that read only its shape do not count."""
    return [(node, slot) for node, slot in value.uses() if node.op_type != "Shape" or node.domain]


def _cleared(value: ir.Value, readers: Sequence[tuple[ir.Node, int]], probes: Probes) -> ir.Value | None:
    """Return the value that replaces NaN in `value` by 0, if it is the only reader."""
    kinds = {node.op_type: (node, slot) for node, slot in readers}
    if len(readers) != 2 or set(kinds) != {"IsNaN", "Where"}:
        return None
    test, (choice, slot) = kinds["IsNaN"][0], kinds["Where"]
    if slot != 2 or choice.inputs[0] is not test.outputs[0] or scalar(choice.inputs[1], probes) != 0:
        return None
    return choice.outputs[0] if len(list(test.outputs[0].uses())) == 1 else None


def _product(node: ir.Node, slot: int, path: Sequence[ir.Value], probes: Probes) -> Product:
    shapes = [probes[0].shapes.get(v.name or "") for v in node.inputs if v is not None]
    if any(shape is None for shape in shapes):
        raise UnknownAttention("the shape of its values is unknown")
    product = product_of(node, tuple(len(shape) for shape in shapes if shape is not None))
    if product is None:
        raise UnknownAttention(f"{node.op_type} {node.name} is not the product of weights and values")
    if slot:
        product = product.swapped()
    if not all(_in_order(product, path, probe) for probe in probes):
        raise UnknownAttention("its weights are not read in the order of queries and keys")
    return product


def _in_order(product: Product, path: Sequence[ir.Value], probe: Probe) -> bool:
    shape = probe.shapes.get(path[0].name or "")
    if shape is None:
        return False
    array: np.ndarray | None = np.arange(int(np.prod(shape))).reshape(shape)
    for value in path[1:]:
        assert array is not None
        array = moved(value, array, probe) if moves(value.producer()) else array
        if array is None:
            return False
    laid = product.laid_left(array) if array is not None else np.empty(0)
    return np.array_equal(laid.reshape(-1), np.arange(int(np.prod(shape))))


def _places(array: np.ndarray, batch: int, heads: int, time: int, size: int) -> list[tuple[bool, bool]]:
    """Return the order of (batch, heads, time, size) in an array: whether heads are apart, and time is first."""
    whole = np.arange(array.size).reshape(batch, heads, time, size)
    found = list[tuple[bool, bool]]()
    if array.shape == whole.shape and np.array_equal(array, whole):
        found.append((True, False))
    for time_first, order in ((False, (0, 2, 1, 3)), (True, (2, 0, 1, 3))):
        turned = whole.transpose(order)
        first, second = turned.shape[:2]
        shapes = ((first, second, heads * size), (first, second, heads, size), (first * second, heads * size))
        if array.shape in shapes and np.array_equal(array.reshape(-1), turned.reshape(-1)):
            found.append((False, time_first))
    return found
