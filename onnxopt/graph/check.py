"""Structural invariants that every pass must keep."""

from collections.abc import Iterable

import onnx_ir as ir

from onnxopt.errors import ModelError, UsageError, nearest


def check_structure(model: ir.Model) -> None:
    """Check that names are unique, every value has one source, and nodes stand after their sources.

    Raises:
        ModelError: ONX305, naming the node or value.
    """
    graph = model.graph
    known = {v.name for v in graph.inputs} | set(graph.initializers)
    for node in graph:
        for value in node.inputs:
            if value is not None and value.name not in known:
                raise _broken(
                    f"node {node.name!r} ({node.op_type}) reads {value.name!r}, which no earlier node computes"
                )
        for value in node.outputs:
            if value.name:
                if value.name in known:
                    raise _broken(f"{value.name!r} is computed twice")
                known.add(value.name)
    for value in graph.outputs:
        if value.name not in known:
            raise _broken(f"output {value.name!r} is computed by no node")


def require_nodes(model: ir.Model, names: Iterable[str]) -> None:
    """Check that names given by the user are names of nodes.

    Raises:
        UsageError: ONX102 one of them is not the name of a node.
    """
    known = {node.name or "": None for node in model.graph}
    for name in names:
        if name not in known:
            raise UsageError("ONX102", "no node has this name", where=name, hint=nearest(name, known))


def _broken(why: str) -> ModelError:
    return ModelError("ONX305", "the model is invalid", why=why)
