"""The placement of least total time: tables and edges in, layers out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from scipy.sparse import lil_array

FLOAT = ""
"""Stands for what is always in float: inputs and outputs of the model, and layers without an integer kernel."""


@dataclass(frozen=True)
class PricedLayer:
    """One layer that can run in either.

    Attributes:
        float_ms: its time in float.
        int8_ms: its time in INT8.
        noise: what it does to the outputs in INT8: power of the error over power of the signal.
    """

    float_ms: float
    int8_ms: float
    noise: float = 0.0


@dataclass(frozen=True)
class Edge:
    """One activation: who writes it and who reads it, as names of layers or `FLOAT`.

    Attributes:
        conversion_ms: time to convert it, once for all its readers.
    """

    writer: str
    readers: tuple[str, ...]
    conversion_ms: float


def cheapest(layers: Mapping[str, PricedLayer], tensors: Iterable[Edge], noise: float = float("inf")) -> frozenset[str]:
    """Return the layers to run in INT8: the least time, conversions between both included.

    A mixed-integer program over one choice per layer, and per tensor whether it is converted either way. Errors of
    layers are taken to add up.

    Args:
        layers: by name.
        tensors: that they exchange.
        noise: that the sum over the layers in INT8 may have.
    """
    names = list(layers)
    edges = [t for t in tensors if {t.writer, *t.readers} != {FLOAT}]
    if not names:
        return frozenset()
    place, columns = {name: i for i, name in enumerate(names)}, len(names) + 2 * len(edges)
    cost = np.zeros(columns)
    cost[: len(names)] = [layer.int8_ms - layer.float_ms for layer in layers.values()]
    rows: list[dict[int, float]] = []
    for number, tensor in enumerate(edges):
        to_float = len(names) + 2 * number
        cost[to_float : to_float + 2] = tensor.conversion_ms
        for reader in set(tensor.readers) - {tensor.writer}:
            # In INT8 here and in float there costs: the variable is at least the difference.
            for column, first, second in ((to_float, tensor.writer, reader), (to_float + 1, reader, tensor.writer)):
                row = {column: -1.0}
                if first != FLOAT:
                    row[place[first]] = 1.0
                if second != FLOAT:
                    row[place[second]] = -1.0
                rows.append(row)
    matrix = lil_array((len(rows) + 1, columns))
    for number, row in enumerate(rows):
        for column, factor in row.items():
            matrix[number, column] = factor
    bounded = np.isfinite(noise)
    if bounded:
        # Shares of the allowance: powers of errors are too small for the solver's tolerance.
        for name, layer in layers.items():
            matrix[len(rows), place[name]] = min(layer.noise / noise if noise > 0 else float(layer.noise > 0) * 2, 1e6)
    most = np.array([0.0] * len(rows) + [1.0 if bounded else np.inf])
    integrality = np.zeros(columns, np.int64)
    integrality[: len(names)] = 1
    solved = scipy.optimize.milp(
        cost,
        integrality=integrality,
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=scipy.optimize.LinearConstraint(matrix.tocsr(), -np.inf, most),
        options={"time_limit": 20},
    )
    if solved.x is None:
        return frozenset()
    return frozenset(name for name in names if solved.x[place[name]] > 0.5)
