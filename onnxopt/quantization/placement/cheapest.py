"""The placement of layers in INT8 and float with the least total time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.solver import FLOAT, Edge, LayerOptions, Problem, solve

_INT8 = "int8"


@dataclass(frozen=True)
class PricedLayer:
    """A layer that can run in INT8 or in float.

    Attributes:
        float_ms: time in float.
        int8_ms: time in INT8.
        noise: effect on the outputs in INT8: power of the error over power of the signal.
    """

    float_ms: float
    int8_ms: float
    noise: float = 0.0


def cheapest(layers: Mapping[str, PricedLayer], edges: Iterable[Edge], noise: float = float("inf")) -> frozenset[str]:
    """Return the layers to run in INT8 for the least total time, conversions included.

    Args:
        layers: layers by name; their errors are assumed to add up.
        edges: activations between layers, with the time of a conversion in ms.
        noise: upper limit of the sum of noise over the layers in INT8.
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
