"""Relu and Clip in other words, where the runtime must not merge them with what stands before them."""

import numpy as np
import onnx_ir as ir

from onnxopt.graph.node_writer import NodeWriter

CLAMPS = ("Relu", "Clip")


def keep_apart(writer: NodeWriter, node: ir.Node) -> None:
    """Put Max, and Min behind it, in the place of a Relu or Clip of float32; outputs stay the same, bit for bit."""
    writer.anchor, result = node, node.inputs[0]
    low, high = (writer.constant(0.0, np.float32), None) if node.op_type == "Relu" else _bounds(writer, node)
    for op, bound in (("Max", low), ("Min", high)):
        result = result if bound is None else writer(op, result, bound)
    assert node.graph is not None
    assert result is not None
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [], [node.outputs[0]], [result])


def behind(product: ir.Node) -> ir.Node | None:
    """Return the Relu or Clip that alone reads a product, or the Add behind it; None where there is none."""
    node = product
    for _ in range(2):  # a bias may stand between
        users = [user for user, _ in node.outputs[0].uses()]
        if len(users) != 1 or node.outputs[0].is_graph_output() or users[0].op_type not in (*CLAMPS, "Add"):
            return None
        node = users[0]
        if node.op_type in CLAMPS:
            return node
    return None


def _bounds(writer: NodeWriter, node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Return the bounds of a Clip, which are attributes before opset 11."""
    given = [*node.inputs[1:3], None, None][:2]
    for i, name in enumerate(("min", "max")):
        if name in node.attributes:
            given[i] = writer.constant(node.attributes.get_float(name, 0.0) or 0.0, np.float32)
    return given[0], given[1]
