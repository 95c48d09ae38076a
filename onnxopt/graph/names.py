"""Names that a graph has not used yet; collected once, because a graph has thousands of them."""

import onnx_ir as ir


def value_names(model: ir.Model) -> set[str]:
    """Return the names of all values, those in subgraphs included."""
    values = (*model.graph.inputs, *(v for node in model.graph.all_nodes() for v in node.outputs))
    return {name for name in (*model.graph.initializers, *(v.name for v in values)) if name}


def names_in(model: ir.Model) -> set[str]:
    """Return the names of all values and nodes, those in subgraphs included."""
    return value_names(model) | {node.name for node in model.graph.all_nodes() if node.name}


def free_name(taken: set[str], name: str) -> str:
    """Return `name`, with underscores behind it where it is taken; it is taken from then on."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
