"""Compensation for removed units without samples: similar kept units get their outgoing weights.

Kim et al., "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020, add each removed unit's weights to the one
kept unit with the most similar filter. Here all kept units share them by least squares in closed form: the correlation
of units for normally distributed inputs follows from their filters alone, by the arc-cosine kernel of Cho and Saul,
"Kernel Methods for Deep Learning", NeurIPS 2009.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import scipy.linalg

from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.graph.edit import tensor_in
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.reconstruction.affine import batch_norm_of, initializer_array, per_channel
from onnxopt.reconstruction.layers import LinearLayer, bias_of, linear_layers, write_layer

_STRENGTH = 1e-6
"""Ridge, as a share of the mean power of a unit."""
_HOMOGENEOUS = (
    "Relu",
    "LeakyRelu",
    "Identity",
    "Dropout",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Flatten",
    "Reshape",
)
"""Operators with f(c * x) = c * f(x) for any c > 0, channel by channel."""


def merged(channels: Channels, kept: Mapping[str, Sequence[int]]) -> tuple[Channels, dict[str, int]]:
    """Return the full-size graph with new weights, and the number of merged units per layer that reads them.

    Units are merged only if a single layer computes them, and only biases, scales and batch norms, followed by
    positively homogeneous operators, are between it and a reading layer. The caller makes the cut itself.

    Args:
        channels: groups of the original (not modified).
        kept: kept units per group.
    """
    model = channels.model.clone()
    layers, found = linear_layers(model), dict[str, int]()
    for group in channels.groups:
        if group.name not in kept or len(group.sources) != 1 or group.sources[0] not in layers:
            continue
        maker, stays = layers[group.sources[0]], np.isin(np.arange(group.size), kept[group.name])
        rows = _positions(group, maker.weight, maker.out_axis)
        if rows is None or any(len(row) != 1 for row in rows) or stays.all():
            continue
        filters, slopes = _effective(model, maker)
        filters = filters[[row[0] for row in rows]]
        for reader in [r for r in layers.values() if r.x in slopes]:
            units = _positions(group, reader.weight, reader.weight_axis)
            if units is not None and len({len(unit) for unit in units}) == 1:
                _redirect(model, reader, units, stays, _shares(filters, stays, slopes[reader.x]))
                found[reader.node] = found.get(reader.node, 0) + int((~stays).sum())
    return replace(channels, model=model), found


def _positions(group: ChannelGroup, weight: str, axis: int) -> tuple[tuple[int, ...], ...] | None:
    return next((positions for name, at, positions in group.members if (name, at) == (weight, axis)), None)


def _matrix(model: ir.Model, layer: LinearLayer) -> np.ndarray:
    tensor = tensor_in(model.graph.initializers[layer.weight])
    return layer.matrix(tensor.numpy())


def _effective(model: ir.Model, maker: LinearLayer) -> tuple[np.ndarray, dict[str, float]]:
    """Return the scaled and shifted filters, shape (outputs, features + 1), and the values that hold the units.

    Each of these values has the slope of its activation below zero.
    """
    matrix = _matrix(model, maker)
    filters = np.column_stack([matrix, bias_of(model, maker, len(matrix))])
    behind = len(maker.window.kernel) if maker.window is not None else int(maker.side == "left")
    value = next(v for node in model.graph for v in node.outputs if v.name == maker.y)
    while (step := _scaled(model, value, len(filters), behind)) is not None:
        scale, shift, value = step
        filters = filters * np.broadcast_to(scale, len(filters))[:, None]
        filters[:, -1] += shift
    return filters, dict(_reached(value, 1.0))


def _scaled(
    model: ir.Model, value: ir.Value, outputs: int, behind: int
) -> tuple[np.ndarray, np.ndarray, ir.Value] | None:
    """Return scale, shift and output of the only node that reads a value; None for another operator."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node, slot = uses[0]
    after = node.outputs[0]
    if node.op_type == "BatchNormalization" and not node.domain:
        found = batch_norm_of(model, node)
        return (*found, after) if found is not None else None
    if node.op_type not in ("Add", "Mul") or node.domain:
        return None
    constant = initializer_array(model, node.inputs[1 - slot])
    number = per_channel(constant, outputs, behind) if constant is not None else None
    if number is None:
        return None
    return (np.ones(()), number, after) if node.op_type == "Add" else (number, np.zeros(()), after)


def _reached(value: ir.Value, slope: float) -> Iterator[tuple[str, float]]:
    """Yield a value and the values computed from it by homogeneous nodes alone, each with its slope below zero."""
    yield value.name or "", slope
    for node, slot in value.uses():
        if node.op_type not in _HOMOGENEOUS or node.domain or slot != 0:
            continue
        below = 0.0 if node.op_type == "Relu" else 1.0
        if node.op_type == "LeakyRelu":
            below = node.attributes.get_float("alpha", 0.01)
        yield from _reached(node.outputs[0], slope * below)


def _shares(filters: np.ndarray, stays: np.ndarray, slope: float) -> np.ndarray:
    """Return the coefficients of kept units that approximate removed ones, shape (removed, kept)."""
    norms = np.linalg.norm(filters, axis=1)
    products, sizes = filters @ filters.T, np.outer(norms, norms)
    cosines = np.clip(products / np.maximum(sizes, 1e-30), -1.0, 1.0)
    angles = np.arccos(cosines)
    rectified = sizes * (np.sin(angles) + (np.pi - angles) * cosines) / (2 * np.pi)
    gram = slope * products + (1 - slope) ** 2 * rectified
    inner = gram[np.ix_(stays, stays)]
    damping = max(_STRENGTH * float(np.trace(inner)) / len(inner), 1e-30)
    raise_if_interrupted()
    solved = scipy.linalg.solve(inner + damping * np.eye(len(inner)), gram[np.ix_(stays, ~stays)], assume_a="pos")
    return np.asarray(solved.T)


def _redirect(
    model: ir.Model, reader: LinearLayer, units: Sequence[Sequence[int]], stays: np.ndarray, shares: np.ndarray
) -> None:
    """Move the weights that read removed units to the kept units."""
    matrix = _matrix(model, reader)
    kernel = math.prod(reader.window.kernel) if reader.window is not None else 1
    columns = np.array([[p * kernel + k for p in unit for k in range(kernel)] for unit in units])
    matrix[:, columns[stays]] += np.einsum("ogf,gk->okf", matrix[:, columns[~stays]], shares)
    matrix[:, columns[~stays]] = 0.0
    write_layer(model, reader, matrix, np.zeros(len(matrix)))
