"""The linear layers that read the units of a channel group, where errors appear first and are compensated."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.channels.find import ChannelGroup, Channels
from onnxopt.graph.edit import tensor_in
from onnxopt.reconstruction.layers import LinearLayer, linear_layers


@dataclass(frozen=True)
class Consumer:
    """A linear layer, and where units of groups stand among its inputs and outputs.

    Attributes:
        inputs: per group that it reads, the features (columns of its matrix) of each unit.
        outputs: per group that it makes, the rows of each unit.
    """

    layer: LinearLayer
    inputs: dict[str, tuple[tuple[int, ...], ...]]
    outputs: dict[str, tuple[tuple[int, ...], ...]]

    @property
    def kernel(self) -> int:
        """Features per input channel."""
        return int(np.prod(self.layer.window.kernel)) if self.layer.window is not None else 1


def consumers_of(channels: Channels) -> tuple[Consumer, ...]:
    """Return all linear layers in graph order, with the units of groups they read and make."""
    layers = linear_layers(channels.model)
    by_place = dict[tuple[str, int], list[tuple[ChannelGroup, tuple[tuple[int, ...], ...]]]]()
    for group in channels.groups:
        for name, axis, positions in group.members:
            by_place.setdefault((name, axis), []).append((group, positions))
    found = []
    for layer in layers.values():
        kernel = int(np.prod(layer.window.kernel)) if layer.window is not None else 1
        inputs = {
            group.name: tuple(tuple(p * kernel + k for p in unit for k in range(kernel)) for unit in positions)
            for group, positions in by_place.get((layer.weight, layer.weight_axis), ())
        }
        outputs = {group.name: positions for group, positions in by_place.get((layer.weight, layer.out_axis), ())}
        found.append(Consumer(layer, inputs, outputs))
    return tuple(found)


def kept_features(
    places: dict[str, tuple[tuple[int, ...], ...]], kept: dict[str, tuple[int, ...]], size: int
) -> np.ndarray:
    """Return which features stay, shape (size,), when each group in `kept` keeps only those units."""
    stays = np.ones(size, bool)
    for name, units in places.items():
        if name in kept:
            for unit in set(range(len(units))) - set(kept[name]):
                stays[list(units[unit])] = False
    return stays


def weight_matrix(model: ir.Model, layer: LinearLayer) -> np.ndarray:
    """Return the layer's weights as they are in `model`, shape (outputs, features)."""
    tensor = tensor_in(model.graph.initializers[layer.weight])
    return layer.matrix(tensor.numpy())
