"""Shift of a layer's lower output bounds through a ReLU into the bias of the next layer.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.1.3, with
means and deviations measured on samples instead of those of batch-norms.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import tensor_in
from onnxopt.graph.windows import is_padded
from onnxopt.measure.runtime.activations import Activations
from onnxopt.quantization.equalization.cross_layer import Chain
from onnxopt.reconstruction.layers import LinearLayer, bias_of, write_layer
from onnxopt.samples import Samples

DEVIATIONS = 3.0
"""Standard deviations below the mean at which a channel's floor is: one of 740 normally distributed values is lower."""


def refusal(chain: Chain, layers: Mapping[str, LinearLayer]) -> str:
    """Return the reason why no bias can move from the first layer to the second; "" if it can."""
    relu = next(iter(chain.first.outputs[0].uses())).node
    if relu.op_type != "Relu" or [node for node, _ in relu.outputs[0].uses()] != [chain.second]:
        return f"no Relu alone stands between it and {chain.second.name}"
    if any((name or "") not in layers for name in (chain.first.name, chain.second.name)):
        return f"it or {chain.second.name} is a convolution in groups, or has weights that are not its own"
    if is_padded(chain.second):
        return f"{chain.second.name} pads with zeros, where a shift cannot be restored"
    return ""


def floors(model: ir.Model, chains: Sequence[Chain], samples: Samples) -> dict[str, np.ndarray]:
    """Return the lower bound of each output channel, shape (channels,), at least 0, by first layer.

    Raises:
        NativeError: ONX401 a run failed.
    """
    names = {chain.first.outputs[0].name or "": chain.first.name or "" for chain in chains}
    sums, counts = dict[str, np.ndarray](), dict.fromkeys(names, 0)
    for arrays in Activations(model, list(names)).of(samples):
        for name, array in arrays.items():
            rows = np.moveaxis(array, 1, -1).reshape(-1, array.shape[1]).astype(np.float64)
            rows = rows[np.isfinite(rows).all(1)]
            sums[name] = sums.get(name, 0) + np.stack([rows.sum(0), np.square(rows).sum(0)])
            counts[name] += len(rows)
    found = dict[str, np.ndarray]()
    for value, layer in names.items():
        mean, square = sums[value] / max(counts[value], 1)
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        found[layer] = np.maximum(mean - DEVIATIONS * spread, 0)
    return found


def absorb(model: ir.Model, chain: Chain, floor: np.ndarray, layers: Mapping[str, LinearLayer]) -> None:
    """Lower the first layer's outputs by `floor` and compensate in the second's bias, in place."""
    for node, sign in ((chain.first, -1.0), (chain.second, 1.0)):
        layer = layers[node.name or ""]
        tensor = tensor_in(model.graph.initializers[layer.weight])
        matrix = layer.matrix(tensor.numpy())
        # All kernel positions of an input read the same channel.
        offset = floor if sign < 0 else matrix @ np.repeat(floor, matrix.shape[1] // len(floor))
        assert len(bias_of(model, layer, len(matrix))) == len(offset)
        write_layer(model, layer, matrix, sign * offset)
