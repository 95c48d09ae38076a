"""Protected groups: the ends of a network are most sensitive to pruning and save little."""

from collections.abc import Sequence

from onnxopt.graph.channels.find import Channels
from onnxopt.graph.layers import WEIGHT_SLOTS
from onnxopt.options.search import Protect


def protected(channels: Channels, which: Sequence[Protect]) -> dict[str, str]:
    """Return the protected groups with the reason.

    Args:
        channels: groups of the model.
        which: `first` = the layer that reads an input, `last` = the one that writes an output, `embeddings` = tables of
            Gather nodes. A group shared by several layers is protected if one of them is.
    """
    kinds = {node.name: node.op_type for node in channels.model.graph}
    layers = [n.name for n in channels.model.graph if n.op_type in WEIGHT_SLOTS and n.op_type not in _NOT_LAYERS]
    begun = {source: group.name for group in channels.groups for source in group.sources}
    found = dict[str, str]()
    if "embeddings" in which:
        tables = {n.inputs[0].name for n in channels.model.graph if n.op_type == "Gather" and n.inputs[0] is not None}
        for group in channels.groups:
            if any(name in tables and axis > 0 for name, axis, _ in group.members):
                found[group.name] = "protected: it is the width of an embedding"
    ordered = [name for name in layers if name in begun and kinds[name] != "Gather"]
    # Behind an embedding, which has its own name here, no layer reads an input.
    embedded = bool(layers) and kinds[layers[0]] == "Gather"
    if "last" in which and ordered:
        found.setdefault(begun[ordered[-1]], "protected: its layer is the last one")
    if "first" in which and ordered and not embedded:
        found.setdefault(begun[ordered[0]], "protected: its layer is the first one")
    return found


_NOT_LAYERS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "PRelu")
