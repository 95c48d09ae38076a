"""A main graph as nodes with their inputs, for drawing."""

from collections import Counter

import onnx_ir as ir

from onnxopt.record.analysis import GraphRecord, NodeRecord

MOST_NODES, MOST_LETTERS = 5000, 200


def graph_record(model: ir.Model) -> GraphRecord:
    """Return the nodes of the main graph in the order they are stored, which is topological, without constants."""
    nodes = [node for node in model.graph if node.op_type != "Constant"]
    kept = nodes[:MOST_NODES]
    place = {node: index for index, node in enumerate(kept)}
    return GraphRecord(
        nodes=tuple(
            NodeRecord(name=_name(node), op_type=node.op_type[:MOST_LETTERS], inputs=_reads(node, place))
            for node in kept
        ),
        left_out=len(nodes) - len(kept),
    )


def _name(node: ir.Node) -> str:
    first = node.outputs[0].name if node.outputs else ""
    return (node.name or first or "")[:MOST_LETTERS]


def _reads(node: ir.Node, place: dict[ir.Node, int]) -> tuple[int, ...]:
    makers = Counter(v.producer() for v in node.inputs if v is not None)
    return tuple(sorted(place[maker] for maker in makers if maker is not None and maker in place))
