"""Node names of the user's file, translated to a model whose nodes were folded or fused."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.graph.edit import name_nodes


@dataclass(frozen=True)
class Renamed:
    """Node names in the simplified graph, and a reason for each name that it lacks."""

    names: tuple[str, ...]
    notes: Mapping[str, str]


def renamed(model: ir.Model, names: Collection[str], source: ir.Model | None) -> Renamed:
    """Return `names`, with removed nodes replaced by the nodes that compute their results now.

    A name that neither `model` nor `source` has is kept; a later check refuses it.

    Args:
        model: the simplified model.
        names: names of nodes in `source`.
        source: the model that the user gave, from which `model` was made.
    """
    known = {node.name for node in model.graph}
    if source is None or known.issuperset(names):
        return Renamed(tuple(names), {})
    now, before = model.clone(), source.clone()
    name_nodes(now)
    name_nodes(before)
    known = {node.name for node in now.graph}
    writers = {v.name or "": node.name or "" for node in now.graph for v in node.outputs if v.name}
    nodes = {node.name: node for node in before.graph}
    found, notes = dict[str, None](), dict[str, str]()
    for name in names:
        if name in known or name not in nodes:
            found[name] = None
        elif (heir := None if _constant(nodes[name]) else _heir(nodes[name], writers)) is not None:
            found[heir] = None
            notes[name] = f"it was merged into {heir}, which is kept in float instead"
        else:
            notes[name] = "it was folded into a constant or removed before quantization"
    return Renamed(tuple(found), notes)


def _constant(node: ir.Node) -> bool:
    """Return whether no input of the model reaches `node`."""
    waiting, seen = [node], {node}
    while waiting:
        for value in waiting.pop().inputs:
            if value is None:
                continue
            if value.is_graph_input():
                return False
            producer = value.producer()
            if producer is not None and producer not in seen:
                seen.add(producer)
                waiting.append(producer)
    return True


def _heir(node: ir.Node, writers: Mapping[str, str]) -> str | None:
    """Return the node that computes the output of `node`, or the output of its only reader, and so on."""
    while True:
        for value in node.outputs:
            if value.name is not None and value.name in writers:
                return writers[value.name]
        readers = {use.node for value in node.outputs for use in value.uses()}
        if len(readers) != 1:
            return None
        (node,) = readers
