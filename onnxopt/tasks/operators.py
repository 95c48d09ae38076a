"""A model by operator: number of nodes, parameters, MACs, time."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from onnxopt.document.blocks import Column, Table
from onnxopt.document.units import count, significant, size
from onnxopt.measure.latency.profile import Profile


@dataclass(frozen=True)
class Operator:
    """All nodes of one operator, with those in sub-graphs.

    Attributes:
        nodes: number of nodes.
        parameters: elements of their weights; a shared weight counts for the first operator.
        weight_bytes: the size of those weights.
        macs: None when that of a node is unknown.
    """

    op_type: str
    nodes: int
    parameters: int
    weight_bytes: int
    macs: int | None


def operators_of(model: ir.Model, macs: Mapping[str, int | None]) -> tuple[Operator, ...]:
    """Return the operators of a model, the costliest first; `macs` as in its anatomy."""
    nodes: dict[str, int] = {}
    parameters: dict[str, int] = {}
    weight_bytes: dict[str, int] = {}
    seen: set[int] = set()
    for node in model.graph.all_nodes():
        op = node.op_type
        nodes[op] = nodes.get(op, 0) + 1
        for value in node.inputs:
            tensor = None if value is None else value.const_value
            if tensor is None or id(value) in seen:
                continue
            seen.add(id(value))
            parameters[op] = parameters.get(op, 0) + prod(tensor.shape.numpy())
            weight_bytes[op] = weight_bytes.get(op, 0) + tensor.nbytes
    found = [
        Operator(op, times, parameters.get(op, 0), weight_bytes.get(op, 0), macs.get(op, 0))
        for op, times in nodes.items()
    ]
    return tuple(sorted(found, key=lambda o: (-(o.macs or 0), -o.weight_bytes, o.op_type)))


def operators_table(found: tuple[Operator, ...]) -> Table:
    """Return one row per operator."""
    columns = (Column("operator"), *(Column(t, number=True) for t in ("nodes", "parameters", "weights", "MACs")))
    rows = tuple(
        (
            one.op_type,
            str(one.nodes),
            count(one.parameters) if one.parameters else "-",
            size(one.weight_bytes) if one.weight_bytes else "-",
            "?" if one.macs is None else count(one.macs) if one.macs else "-",
        )
        for one in found
    )
    return Table(columns, rows, "by operator")


def times_table(found: Profile) -> Table:
    """Return the time by operator of ONNX Runtime's fused graph."""
    total = found.total_ms or 1.0
    columns = (Column("runs as"), Column("ms", number=True), Column("share", number=True))
    rows = tuple((op, significant(ms), f"{100 * ms / total:.1f} %") for op, ms in found.by_op.items())
    return Table(columns, rows, "time by operator, under the profiler, on synthetic inputs")
