"""Removal of values without readers after an edit."""

import onnx_ir as ir


def unread(model: ir.Model) -> frozenset[str]:
    """Return the names of stored values without readers."""
    constants = (node.outputs[0] for node in model.graph if node.op_type == "Constant")
    stored = (*model.graph.initializers.values(), *constants)
    return frozenset(v.name or "" for v in stored if not _is_read(v) and not v.is_graph_input())


def drop_unread(model: ir.Model, kept: frozenset[str] = frozenset()) -> None:
    """Remove stored values without readers, in place, except `kept`."""
    for name in sorted(unread(model) - kept):
        if name in model.graph.initializers:
            model.graph.initializers.pop(name)
    for node in [n for n in model.graph if n.op_type == "Constant" and not _is_read(n.outputs[0])]:
        if node.outputs[0].name not in kept:
            model.graph.remove(node, safe=True)


def drop_dead(model: ir.Model, nodes: list[ir.Node]) -> None:
    """Remove the nodes without readers among `nodes`, then those that only these read, in place."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.graph is None or any(_is_read(output) for output in node.outputs):
            continue
        waiting += [p for value in node.inputs if value is not None and (p := value.producer()) is not None]
        model.graph.remove(node, safe=True)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
