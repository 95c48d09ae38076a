"""Weights computed by nodes from smaller tensors; a runtime does this once, when it loads the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_tensor, set_weight
from onnxopt.graph.names import free_name

Step = tuple[str, tuple[str, ...], Mapping[str, Any]]
"""Operator; names of parts, or `previous` for the result of the step before; and attributes."""


def compute_weight(
    model: ir.Model,
    name: str,
    parts: Mapping[str, np.ndarray | ir.TensorProtocol],
    steps: Sequence[Step],
    taken: set[str],
) -> list[str]:
    """Replace an initializer of the main graph by nodes that compute it, in place; return the new initializers.

    The value keeps its name, which users and other passes refer to.

    Args:
        model: a model with unique names of nodes and values.
        name: name of the initializer.
        parts: the stored tensors, by a word that is appended to `name`.
        steps: the steps in execution order; the last computes the weight.
        taken: the names in the model; it gets the new ones.
    """
    graph = model.graph
    old = graph.initializers[name]
    stored = {word: ir.Value(name=free_name(taken, f"{name}_{word}")) for word in parts}
    for word, value in stored.items():
        part = parts[word]
        if isinstance(part, np.ndarray):
            set_weight(value, part)
        else:
            set_tensor(value, part)
        graph.register_initializer(value)
    nodes, known = list[ir.Node](), dict(stored)
    for op_type, inputs, attributes in steps:
        made = ir.node(
            op_type, [known[word] for word in inputs], attributes, name=free_name(taken, f"{name}_{op_type}")
        )
        made.outputs[0].name = free_name(taken, f"{name}_{op_type}_output")
        known["previous"] = made.outputs[0]
        nodes.append(made)
    result = known["previous"]
    result.shape, result.type = old.shape, old.type
    old.replace_all_uses_with(result)
    graph.initializers.pop(name)
    taken.discard(result.name or "")
    result.name = name
    graph.insert_before(graph[0], nodes)
    return [value.name or "" for value in stored.values()]
