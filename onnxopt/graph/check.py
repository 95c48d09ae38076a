"""Structural invariants that every pass must keep."""

import onnx_ir as ir

from onnxopt.errors import ModelError


def check_structure(model: ir.Model) -> None:
    """Check that names are unique, every value has one source, and nodes stand after what they read.

    Raises:
        ModelError: ONX305, naming the node or value.
    """
    graph = model.graph
    known = {v.name for v in graph.inputs} | set(graph.initializers)
    for node in graph:
        for value in node.inputs:
            if value is not None and value.name not in known:
                raise _broken(
                    f"node {node.name!r} ({node.op_type}) reads {value.name!r}, which nothing before it gives"
                )
        for value in node.outputs:
            if value.name:
                if value.name in known:
                    raise _broken(f"{value.name!r} is given twice")
                known.add(value.name)
    for value in graph.outputs:
        if value.name not in known:
            raise _broken(f"output {value.name!r} is given by nothing")


def _broken(why: str) -> ModelError:
    return ModelError("ONX305", "the model is invalid", why=why)
