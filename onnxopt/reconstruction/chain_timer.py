"""How long a layer takes as a chain, as a share of what it takes whole: both measured alone."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.factor_edit import replace_by_chain
from onnxopt.measure.latency_table import LatencyTable, alone, nothing
from onnxopt.reconstruction.factors import stage_shapes
from onnxopt.reconstruction.layers import LinearLayer
from onnxopt.reconstruction.low_rank_fit import Choice
from onnxopt.reconstruction.low_rank_seen import weight_of

_RESOLUTION_MS = 1e-4

Timer = Callable[[LinearLayer, Sequence[Choice]], list[float]]
"""Given a layer and what may become of it: the time of each as a share of the dense layer's."""


def timer_of(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], table: LatencyTable) -> Timer:
    """Return what times a layer alone against its chains.

    Args:
        model: that has the layers.
        shapes: of what they read, by name of the value.
        table: remembers times.
    """
    nodes = {node.name: node for node in model.graph}

    def shares(layer: LinearLayer, choices: Sequence[Choice]) -> list[float]:
        node, tensor = nodes[layer.node], model.graph.initializers[layer.weight].const_value
        if layer.x not in shapes or tensor is None:
            return [float("inf")] * len(choices)
        rng = np.random.default_rng(0)
        dense = alone(node, tensor, shapes[layer.x], 0 if layer.side == "left" else 1)
        weight = weight_of(model, layer)
        chains = []
        for choice in choices:
            chain = dense.clone()
            stages = stage_shapes(choice.form, choice.ranks, weight.shape)
            replace_by_chain(chain, "layer", [(rng.standard_normal(shape), axes) for shape, axes in stages])
            chains.append(chain)
        feeds = {"x": rng.standard_normal(shapes[layer.x]).astype(tensor.dtype.numpy())}
        # What any run costs, whatever it computes, is paid once by the whole model.
        empty, *times = table.times_ms([nothing(dense), dense, *chains], feeds)
        spent = [max(time - empty, _RESOLUTION_MS) for time in times]
        return [time / spent[0] for time in spent[1:]]

    return shares
