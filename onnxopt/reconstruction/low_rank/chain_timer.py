"""Time of a layer and of its factors, among other layers."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.factor_edit import replace_by_chain
from onnxopt.measure.latency.latency_table import LatencyTable, alone, copies
from onnxopt.reconstruction.layers import LinearLayer
from onnxopt.reconstruction.low_rank.fit import Choice
from onnxopt.reconstruction.low_rank.forms import of_one_group, stage_shapes
from onnxopt.reconstruction.low_rank.layer_statistics import weight_of
from onnxopt.reconstruction.scan_layers import steps_of, with_bodies

_RESOLUTION_MS = 1e-4
_MOST_COPIES = 4

Timer = Callable[[LinearLayer, Sequence[Choice]], list[float]]
"""Called with a layer and its choices; returns milliseconds of the dense layer, then of each choice."""


def timer_of(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    table: LatencyTable,
    inner: Collection[str] = (),
) -> Timer:
    """Return a timer of a layer and its chains.

    A layer alone in a model finds its weights in the caches, which would hold those of its neighbours, and includes the
    fixed cost of a run. So it is timed beside copies of itself with other weights, as many as fill the model; the
    result is the time that each copy adds.

    Args:
        model: the model of the layers.
        shapes: shapes of their inputs, by name of the value.
        table: cache of times.
        inner: layers in the body of a Scan, whose shapes cover all steps.
    """
    nodes = {node.name: node for _, node in with_bodies(model)}
    total = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)

    def times_ms(layer: LinearLayer, choices: Sequence[Choice]) -> list[float]:
        node, tensor = nodes[layer.node], model.graph.initializers[layer.weight].const_value
        if layer.x not in shapes or tensor is None:
            return [float("inf")] * (len(choices) + 1)
        rng = np.random.default_rng(0)
        runs, shape = steps_of(layer, inner, shapes[layer.x])
        dense = alone(node, tensor, shape, 0 if layer.side == "left" else 1)
        weight = weight_of(model, layer)
        chains = []
        for choice in choices:
            chain = dense.clone()
            stages = stage_shapes(choice.form, choice.ranks, of_one_group(weight.shape, layer.groups))
            sized = [((layer.groups * size[0], *size[1:]), axes) for size, axes in stages]
            replace_by_chain(chain, "layer", [(rng.standard_normal(size), axes) for size, axes in sized])
            chains.append(chain)
        feeds = {"x": rng.standard_normal(shape).astype(tensor.dtype.numpy())}
        count = min(max(round(total / tensor.nbytes), 2), _MOST_COPIES)
        single = [dense, *chains]
        times = table.times_ms([*single, *(copies(one, count) for one in single)], feeds)
        pairs = zip(times[: len(single)], times[len(single) :], strict=True)
        return [runs * max((many - one) / (count - 1), _RESOLUTION_MS) for one, many in pairs]

    return times_ms


def in_place(timer: Timer, inside_ms: Mapping[str, float]) -> Timer:
    """Return a timer that limits dense layers to their time inside the model; chains keep their ratio to them.

    The time of a layer depends on the work before it: beside its copies a wide convolution took a third more than in
    its network. A larger time in a profile is ignored, because profiling adds to the time of short kernels.

    Args:
        timer: the timer of layers beside their copies.
        inside_ms: times inside the model by node; a layer without one keeps its time.
    """

    def times_ms(layer: LinearLayer, choices: Sequence[Choice]) -> list[float]:
        dense, *chains = timer(layer, choices)
        scale = min(inside_ms.get(layer.node, dense) / dense, 1.0)
        return [scale * time for time in (dense, *chains)]

    return times_ms
