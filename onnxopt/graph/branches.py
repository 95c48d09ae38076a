"""Splitting a model that is one If, such as a merged decoder, into a model per branch, and merging them again."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import onnx_ir as ir

from onnxopt.graph.edit import add_weight
from onnxopt.model_file import opset_of, upgrade_opset
from onnxopt.model_file.streamed import checksum


class Branches(NamedTuple):
    """Two models with the inputs and outputs of the merged one.

    Attributes:
        then: the branch for true.
        other: the branch for false.
    """

    then: ir.Model
    other: ir.Model


def branches_of(model: ir.Model, switch: str) -> Branches | None:
    """Return the branches of the If that makes all outputs; None where the input `switch` decides no such node."""
    around, given = _around(model), {value.name: value for value in model.graph.inputs}
    if around is None or switch not in given or around.inputs[0] is not given[switch]:
        return None
    return Branches(_inlined(model, "then_branch"), _inlined(model, "else_branch"))


def merged(model: ir.Model, branches: Branches) -> ir.Model:
    """Return the model with other branches, whose equal weights are in the graph around them once.

    Args:
        model: a model with branches (not modified).
        branches: models with its inputs and outputs (not modified).

    Raises:
        ModelError: ONX307 one cannot have the opset of the other.
    """
    whole, opset = model.clone(), max(map(opset_of, branches))
    graph, around = whole.graph, _around(whole)
    assert around is not None
    known = dict[bytes, ir.Value]()
    made = {}
    for name, branch in zip(("then_branch", "else_branch"), branches, strict=True):
        made[name] = _branch(upgrade_opset(branch, opset).clone(), graph, name, known)
        whole.opset_imports.update(branch.opset_imports)
    whole.opset_imports[""] = opset
    for name, body in made.items():
        _forget(around.attributes[name].as_graph())
        around.attributes[name] = ir.AttrGraph(name, body)
    for value in [v for v in graph.initializers.values() if not v.uses() and not v.is_graph_output()]:
        graph.initializers.pop(value.name or "")
    return whole


def move_into_branches(model: ir.Model, op_types: Collection[str]) -> None:
    """Move nodes that one branch of an If alone reads into that branch, so that they do not run with the other one.

    Args:
        model: is changed.
        op_types: the operators to move.
    """
    bodies = {
        attribute.as_graph()
        for node in model.graph
        if node.op_type == "If" and not node.domain
        for attribute in node.attributes.values()
    }
    for node in list(model.graph):
        if node.op_type not in op_types or any(value.is_graph_output() for value in node.outputs):
            continue
        readers = {use.node.graph for value in node.outputs for use in value.uses()}
        body = readers.pop() if len(readers) == 1 else None
        if isinstance(body, ir.Graph) and body in bodies:
            model.graph.remove(node)
            body.insert_before(body[0], node)


def _around(model: ir.Model) -> ir.Node | None:
    """Return the If whose outputs are those of the graph, each once."""
    outputs = list(model.graph.outputs)
    node = outputs[0].producer() if outputs else None
    if node is None or node.op_type != "If" or node.domain or list(node.outputs) != outputs:
        return None
    return node


def _inlined(model: ir.Model, name: str) -> ir.Model:
    """Return the model with one branch in the place of the If."""
    whole = model.clone()
    graph, around = whole.graph, _around(whole)
    assert around is not None
    body = around.attributes[name].as_graph()
    nodes, results = list(body), list(body.outputs)
    body.outputs.clear()
    moved = dict[ir.Value, ir.Value]()
    for value in list(body.initializers.values()):
        tensor = value.const_value
        assert tensor is not None
        moved[value] = add_weight(graph, value.name or "weight", tensor)
        value.replace_all_uses_with(moved[value])
    body.remove(nodes)
    graph.insert_before(around, nodes)
    results = [moved.get(value, value) for value in results]  # an output of a branch may be its initializer
    for place, (old, new) in enumerate(zip(list(graph.outputs), results, strict=True)):
        ends = new if new.producer() in nodes and new not in results[:place] else _copied(graph, around, new)
        ends.type, ends.shape = old.type, old.shape
        kept, old.name = old.name, f"{old.name}_merged"
        ends.name = kept
        graph.outputs[place] = ends
    graph.remove(around, safe=True)
    return whole


def _copied(graph: ir.Graph, before: ir.Node, value: ir.Value) -> ir.Value:
    node = ir.node("Identity", [value])
    graph.insert_before(before, node)
    return node.outputs[0]


def _branch(model: ir.Model, outer: ir.Graph, name: str, known: dict[bytes, ir.Value]) -> ir.Graph:
    """Return the body of a branch, made of a model that is used up; its weights go into `outer`."""
    graph = model.graph
    for place, value in enumerate(list(graph.outputs)):
        if value.producer() is None:  # an input, or a weight since constants were folded: a body must make it
            node = ir.node("Identity", [value])
            node.outputs[0].name = f"{value.name}_given_{place}"
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
            graph.append(node)
            graph.outputs[place] = node.outputs[0]
    for own, given in zip(list(graph.inputs), list(outer.inputs), strict=True):
        own.replace_all_uses_with(given)
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        assert tensor is not None
        key = checksum(tensor)
        if key not in known:
            known[key] = add_weight(outer, f"{value.name}_of_branches", tensor)
        value.replace_all_uses_with(known[key])
    nodes, results = list(graph), list(graph.outputs)
    graph.outputs.clear()
    graph.remove(nodes)
    # A value inside may have no name of a value around it.
    for value in _values(nodes):
        value.name = f"{name}/{value.name}"
    return ir.Graph([], results, nodes=nodes, name=name)


def _forget(body: ir.Graph) -> None:
    """Have a body that is given up read nothing of the graph around it."""
    for node in list(ir.traversal.RecursiveGraphIterator(body)):
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)


def _values(nodes: Iterable[ir.Node]) -> Iterable[ir.Value]:
    return (value for node in nodes for value in node.outputs if value.name)
