"""Facts of a graph about its outputs: the operators that compute them, and their shapes."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from onnxopt.measure.tasks.task import ModelFacts, OutputFacts

MOVES = frozenset(
    {
        "Cast",
        "CastLike",
        "Concat",
        "DequantizeLinear",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Data-movement operators."""
MEANS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
"""Operators whose results have the range of what they read."""
CONTROL = frozenset({"If", "Loop", "Scan"})
"""Operators with a body, whose operators follow in the list."""
_BRANCHES = frozenset({"Concat"})
_MOST = 64
"""Most operators listed for one output, which limits the search through many concatenations."""
_Bound = Mapping[str, tuple[ir.Value, "_Scope"]]


class _Scope:
    """Values of a function's inputs at its call; empty in the graph itself."""

    def __init__(self, given: dict[str, tuple[ir.Value, "_Scope"]] | None = None) -> None:
        self.given = given or {}


def facts_of(model: ir.Model) -> ModelFacts:
    """Return the facts by which a model's tasks are recognized."""
    outputs = {}
    for value in model.graph.outputs:
        name = value.name or ""
        outputs[name] = OutputFacts(name, _shape(value), tuple(_ends(value, model)))
    operators = {node.op_type for node in model.graph.all_nodes()}
    for function in model.functions.values():
        operators |= {node.op_type for node in function.all_nodes()}
    return ModelFacts(outputs, frozenset(operators), dict(model.metadata_props))


def _shape(value: ir.Value) -> tuple[int | str | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else size.value for size in value.shape.dims)


def _ends(value: ir.Value, model: ir.Model) -> Iterator[str]:
    seen = set[int]()
    for number, operator in enumerate(_walk(value, _Scope(), model, seen)):
        if number == _MOST:
            return
        yield operator


def _walk(value: ir.Value, scope: _Scope, model: ir.Model, seen: set[int]) -> Iterator[str]:
    """Yield operators from `value` backwards, depth first; each value once."""
    node = value.producer()
    if node is None:
        if value.name in scope.given:
            outside, around = scope.given[value.name]
            yield from _walk(outside, around, model, seen)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    index = value.index() or 0
    function = model.functions.get(node.op_identifier())
    if function is not None:
        pairs = zip(function.inputs, node.inputs, strict=False)
        inner = _Scope({one.name or "": (other, scope) for one, other in pairs if other is not None})
        yield from _walk(function.outputs[index], inner, model, seen)
        return
    yield node.op_type
    for earlier in _sources(node, index):
        yield from _walk(earlier, scope, model, seen)


def _sources(node: ir.Node, index: int) -> list[ir.Value]:
    """Return the sources of output `index`: outputs of control-flow bodies, or inputs of data movement."""
    graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    if graphs:
        # The first output of a loop's body is the condition; carried and scanned values follow.
        place = index + (node.op_type == "Loop")
        return [graph.outputs[place] for graph in graphs if place < len(graph.outputs)]
    if node.op_type not in MOVES | MEANS:
        return []
    moved = node.inputs if node.op_type in _BRANCHES else node.inputs[:1]
    return [value for value in moved if value is not None]
