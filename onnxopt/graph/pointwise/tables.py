"""Pointwise operators behind the lookup of a row, computed for all rows of the table.

        Gather(table) - Add - Tanh   ->   Gather(Tanh(table + shift))

A table of characters, bytes or classes has fewer rows than a model looks up in each run. A table that others read too
stays: it would be stored twice.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.pointwise.expression import computed, is_pointwise
from onnxopt.graph.scales.reading import constant_numbers, only_user


def fold_into_tables(model: ir.Model) -> list[str]:
    """Fold pointwise operators of the main graph into float32 tables in place, and return the names of the nodes."""
    writer, names = NodeWriter(model, "table"), list[str]()
    for node in [n for n in model.graph if n.op_type == "Gather" and not n.domain]:
        given = node.inputs[0]
        if given is None or only_user(given) is not node or node.attributes.get_int("axis", 0) != 0:
            continue
        nodes = _rowwise(node)
        last = _only_result(nodes, node)
        table = None if last is None else constant_numbers(given)
        if last is None or table is None or table.ndim != 2:
            continue
        rows = computed(nodes, {node.outputs[0]: table})[last].reshape(-1, table.shape[1])
        if rows.shape != table.shape or not np.isfinite(rows).all():
            continue
        writer.anchor = node
        result = writer("Gather", writer.constant(rows, np.float32), node.inputs[1], axis=0)
        names += [n.name or n.outputs[0].name or "" for n in nodes]
        behind = last.producer()
        assert behind is not None
        ir.convenience.replace_nodes_and_values(model.graph, behind, [behind], [], [last], [result])
    if names:
        common.RemoveUnusedNodesPass()(model)
    return names


def _rowwise(gather: ir.Node) -> list[ir.Node]:
    """Return the pointwise nodes that compute each row from the row that was looked up, in order."""
    found: list[ir.Node] = []
    values, codes = {gather.outputs[0]}, gather.inputs[1]
    axes = None if codes is None or codes.shape is None else len(codes.shape) + 1
    for node in gather.graph or ():
        inputs = [value for value in node.inputs if value is not None]
        if not values.intersection(inputs) or not is_pointwise(node):
            continue
        if all(value in values or _same_for_all_rows(value, axes) for value in inputs):
            found.append(node)
            values.add(node.outputs[0])
    return found


def _same_for_all_rows(value: ir.Value, axes: int | None) -> bool:
    """Return whether a constant is a number, or one number per column; `axes` of the rows it is combined with."""
    numbers = constant_numbers(value)
    if numbers is None:
        return False
    fits = numbers.ndim <= (1 if axes is None else axes)
    return fits and numbers.size == (numbers.shape[-1] if numbers.ndim else 1)


def _only_result(nodes: list[ir.Node], gather: ir.Node) -> ir.Value | None:
    """Return the one value of these nodes that others read; None if there are several, or the rows themselves."""
    read = [
        value
        for value in (gather.outputs[0], *(node.outputs[0] for node in nodes))
        if value.is_graph_output() or any(use.node not in nodes for use in value.uses())
    ]
    return read[0] if len(read) == 1 and read[0] is not gather.outputs[0] else None
