"""Detection tails: boxes and scores that are decoded, joined and chosen from behind the last layers."""

from collections.abc import Callable, Collection, Iterator

import onnx_ir as ir

from onnxopt.quantization.outcome import WEIGHTED, nodes_inside

REASON = "it belongs to the detection tail (decoding, TopK, NMS), in which small differences decide"
"""The reason why such nodes stay in float."""

Step = Callable[[ir.Node], Iterator[ir.Node]]
"""From a node to its neighbours."""

_CHOOSING = ("TopK", "NonMaxSuppression")
_SUPPRESSION = "nms"
"""Part of the names of operators outside the standard that suppress overlapping boxes (`EfficientNMS_TRT`)."""


def joined_heads(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the Concat nodes that join the outputs of several layers, and that no layer reads.

    Detectors of several scales end so: one scale for all of them, and for the boxes decoded behind, would round the
    small ones away, and saves no time.
    """
    feeding = _feeding_layers(model, ())
    return tuple(
        node.name or ""
        for node in model.graph
        if node.op_type == "Concat" and node not in feeding and _layers_before(node) > 1
    )


def _layers_before(node: ir.Node) -> int:
    """Return the number of layers that a node reads from through other nodes."""
    passed = _reached([node], _producers, ())
    return len({producer for inner in passed for producer in _producers(inner) if _is_layer(producer)})


def detection_tail(model: ir.Model, heads: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of the nodes that decode, join and choose detections, in graph order.

    A tail begins behind the last layers with weights and ends at the outputs or, in a detector of two stages, at the
    layers that read the chosen detections. The activation of a layer is not part of it, nor are other inputs of a
    layer, such as the sums of a residual network.

    Args:
        model: every node named.
        heads: nodes that count as the choice of detections, such as joins of boxes and scores into an output.
    """
    chosen = [n for n in model.graph if _chooses(n) or n.name in heads]
    if not chosen:
        return ()
    feeding = _feeding_layers(model, chosen)
    behind = _reached(chosen, _readers, set())
    before = _reached(chosen, _producers, feeding | {node for node in model.graph if _ends_layer(node)})
    return tuple(node.name or "" for node in model.graph if node in behind or node in before)


def _chooses(node: ir.Node) -> bool:
    return node.op_type in _CHOOSING or _SUPPRESSION in node.op_type.lower()


def _is_layer(node: ir.Node) -> bool:
    return node.op_type in WEIGHTED or any(inner.op_type in WEIGHTED for inner in nodes_inside(node))


def _ends_layer(node: ir.Node) -> bool:
    """Return whether a node is the activation of a layer, which the runtime computes with it."""
    return node.op_type in ("Relu", "Clip") and any(map(_is_layer, _producers(node)))


def _reached(begin: Collection[ir.Node], step: Step, closed: Collection[ir.Node]) -> set[ir.Node]:
    """Return the nodes that some nodes reach, themselves included, without layers and closed nodes."""
    found, waiting = set(begin), list(begin)
    while waiting:
        new = {n for n in step(waiting.pop()) if n not in found and n not in closed and not _is_layer(n)}
        found |= new
        waiting += new
    return found


def _producers(node: ir.Node) -> Iterator[ir.Node]:
    values = (value for value in node.inputs if value is not None)
    return (producer for value in values if (producer := value.producer()) is not None)


def _readers(node: ir.Node) -> Iterator[ir.Node]:
    return (use.node for value in node.outputs for use in value.uses())


def _feeding_layers(model: ir.Model, chosen: Collection[ir.Node]) -> set[ir.Node]:
    """Return the nodes whose values reach a layer by a way on which nothing is chosen."""
    feeding = set[ir.Node]()
    for node in reversed(list(model.graph)):
        if any(_is_layer(reader) or (reader in feeding and reader not in chosen) for reader in _readers(node)):
            feeding.add(node)
    return feeding
