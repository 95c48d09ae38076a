"""Layers that do the same work, such as those of equal blocks: a profile gives them one time."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.graph.edit import with_input_shapes
from onnxopt.graph.layers import anatomy_of
from onnxopt.samples import Feeds

_FEWEST = 3
"""Layers of one kind from which their median is better than the time of each: of two it would be the mean."""

Kinds = Mapping[str, tuple[object, ...]]
"""The kind of layers by name; those without one have a time of their own."""


def kinds_of(model: ir.Model, owners: Mapping[str, str], feeds: Feeds) -> Kinds:
    """Return the kind of each layer: operator, shape of the matrix, work at these inputs, and operators behind it.

    Args:
        model: a model with names for all nodes.
        owners: the layer of each node that belongs to one.
        feeds: one batch.
    """
    behind = defaultdict[str, list[str]](list)
    for node in model.graph:
        if (name := node.name or "") in owners:
            behind[owners[name]].append(node.op_type)
    try:
        layers = anatomy_of(with_input_shapes(model, {name: array.shape for name, array in feeds.items()})).layers
    except ModelError:
        return {}
    return {
        layer.name: (layer.weight_shape, layer.macs, layer.output_shape, tuple(sorted(behind[layer.name])))
        for layer in layers
        if layer.name in behind and layer.macs is not None
    }


def evened(times: Mapping[str, float], kinds: Kinds) -> dict[str, float]:
    """Return times in which layers of one kind have their median, because other programs disturb single ones."""
    groups = defaultdict[tuple[object, ...], list[str]](list)
    for name in times:
        if name in kinds:
            groups[kinds[name]].append(name)
    found = dict(times)
    for some in groups.values():
        if len(some) >= _FEWEST:
            found |= dict.fromkeys(some, median(times[name] for name in some))
    return found
