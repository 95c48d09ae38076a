"""Nodes behind a value that compute functions of it alone, such as the sigmoid and the product of SiLU."""

from collections.abc import Callable, Collection, Iterable, Mapping

import onnx_ir as ir

from onnxopt.graph.scales.reading import constant_numbers

MOST = 8
"""Most nodes of a function."""
_FUNCTIONS = frozenset(
    (
        "Add",
        "Celu",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Sub",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    )
)

Follows = Callable[[ir.Node, Collection[ir.Value]], bool]
"""Whether a node belongs to the functions of a value, given this value and those computed from it so far."""


def behind(value: ir.Value, follows: Follows) -> tuple[list[ir.Node], list[ir.Value]]:
    """Return the nodes that compute functions of `value`, in order, and the values among them that other nodes read.

    `value` itself is one of those where others read it, or where its functions have more than `MOST` nodes.
    """
    known, nodes = [value], list[ir.Node]()
    while more := next((n for v in known for n, _ in v.uses() if n not in nodes and follows(n, known)), None):
        if len(nodes) == MOST:
            return [], [value]
        nodes.append(more)
        known += more.outputs
    return nodes, [v for v in known if v.is_graph_output() or any(user not in nodes for user, _ in v.uses())]


def with_functions(model: ir.Model, names: Iterable[str], kinds: Collection[str]) -> tuple[str, ...]:
    """Return names of nodes, and those of the functions that alone read the output of one of them.

    Args:
        model: the model.
        names: names of nodes.
        kinds: operators whose functions count.
    """
    found = dict.fromkeys(names)
    nodes: Mapping[str, ir.Node] = {n.name or "": n for n in model.graph if n.op_type in kinds and n.name in found}
    for name in tuple(found):
        node = nodes.get(name)
        functions, read = ([], []) if node is None else behind(node.outputs[0], _is_function)
        if node is not None and node.outputs[0] not in read:
            found |= dict.fromkeys(function.name or "" for function in functions)
    return tuple(found)


def _is_function(node: ir.Node, known: Collection[ir.Value]) -> bool:
    constant = (v in known or v is None or constant_numbers(v) is not None for v in node.inputs)
    return not node.domain and node.op_type in _FUNCTIONS and len(node.outputs) == 1 and all(constant)
