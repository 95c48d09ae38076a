"""The placement of least total time: layers with their times and edges in, layers in INT8 out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.solver import FLOAT, Edge, LayerOptions, Problem, solve

_INT8 = "int8"


@dataclass(frozen=True)
class PricedLayer:
    """One layer that can run in either.

    Attributes:
        float_ms: its time in float.
        int8_ms: its time in INT8.
        noise: its effect on the outputs in INT8: power of the error over power of the signal.
    """

    float_ms: float
    int8_ms: float
    noise: float = 0.0


def cheapest(layers: Mapping[str, PricedLayer], edges: Iterable[Edge], noise: float = float("inf")) -> frozenset[str]:
    """Return the layers to run in INT8: the least time, conversions between both included.

    Args:
        layers: by name; the errors of several are taken to add up.
        edges: activations that they exchange, with the time of a conversion in ms.
        noise: most that the sum over the layers in INT8 may have.
    """
    options = {
        name: LayerOptions(
            (),
            {FLOAT: np.array(layer.float_ms), _INT8: np.array(layer.int8_ms)},
            {FLOAT: 0.0, _INT8: layer.noise},
        )
        for name, layer in layers.items()
    }
    mix = solve(Problem({}, options, tuple(edges), frozenset({_INT8})), noise)
    return frozenset(name for name, mode in mix.modes.items() if mode == _INT8)
