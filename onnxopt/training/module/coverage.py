"""Operators that can be trained, and nodes of a model that cannot."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.errors import ModelError, UsageError, first_line, nearest
from onnxopt.training.module.inlined import INLINED
from onnxopt.training.module.registry import RULES


def covered() -> frozenset[tuple[str, str]]:
    """Return the operators that can be trained, as (domain, op type)."""
    return frozenset(RULES) | {("", op) for op in INLINED}


def unsupported_in(nodes: Iterable[ir.Node], fed: Collection[ir.Value]) -> tuple[tuple[str, str], ...]:
    """Return the nodes that cannot be trained, those of branches and bodies too, as (node name, op type).

    They have no rule, or are control flow that depends on the values in `fed`.
    """
    known = covered()
    missing = dict[tuple[str, str], None]()
    for node in _with_inner(nodes):
        if (node.domain, node.op_type) not in known or not _decided(node, fed):
            op_type = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            missing[node.name or node.outputs[0].name or "", op_type] = None
    return tuple(missing)


def frozen_among(nodes: Iterable[ir.Node], fed: Collection[ir.Value]) -> dict[ir.Node, None]:
    """Return the nodes, in graph order, that cannot be trained, or have one inside that cannot."""
    return {node: None for node in nodes if unsupported_in([node], fed)}


def _decided(node: ir.Node, fed: Collection[ir.Value]) -> bool:
    """Return whether control flow depends on constants and shapes alone; the inputs of a body count as such."""
    slots = {"If": (0,), "Loop": (0, 1)}.get(node.op_type, ()) if not node.domain else ()
    return not any(_reads(node.inputs[slot], fed) for slot in slots)


def _reads(value: ir.Value | None, fed: Collection[ir.Value]) -> bool:
    """Return whether the elements of a value, and not only its shape, follow from `fed`."""
    seen, pending = set[ir.Value](), [value]
    while pending:
        value = pending.pop()
        if value is None or value in seen:
            continue
        if value in fed:
            return True
        seen.add(value)
        node = value.producer()
        if node is not None and node.op_type not in ("Shape", "Size"):
            pending += node.inputs
    return False


def inputs_of(graph: ir.Graph) -> list[ir.Value]:
    """Return the inputs of `graph` that a caller must feed."""
    return [value for value in graph.inputs if value.name not in graph.initializers]


def inlined_functions(model: ir.Model) -> ir.Model:
    """Return a copy in which calls of the model's own functions are replaced by their bodies.

    Raises:
        ModelError: ONX309 a function cannot be inlined, such as one of another opset.
    """
    copy = model.clone()
    if copy.functions:
        try:
            common.InlinePass()(copy)
        except Exception as error:  # it raises many types on functions it does not foresee
            raise ModelError(
                "ONX309",
                "a function of the model cannot be trained",
                why=f"it cannot be inlined: {first_line(error)}",
                hint="Export the model again without functions, or with the functions inlined.",
            ) from error
    return copy


def named_outputs(graph: ir.Graph, names: Sequence[str] | None) -> list[ir.Value]:
    """Return the outputs called `names`; all when that is None.

    Raises:
        UsageError: ONX101 there is no such output.
    """
    known = {value.name or "": value for value in graph.outputs}
    for name in names or ():
        if name not in known:
            raise UsageError("ONX101", "there is no such output", where=name, hint=nearest(name, known))
    return [*known.values()] if names is None else [known[name] for name in names]


def live_nodes(graph: ir.Graph, outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """Return the nodes of `graph` that `outputs` depend on, in graph order."""
    found, pending = set[ir.Node](), list[ir.Value | None](outputs)
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node is None or node in found:
            continue
        found.add(node)
        for inner in _with_inner([node]):
            pending += inner.inputs
            pending += [
                v for a in inner.attributes.values() if a.type == ir.AttributeType.GRAPH for v in a.value.outputs
            ]
    return [node for node in graph if node in found]


def _with_inner(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    for node in nodes:
        yield node
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _with_inner(attribute.as_graph())
