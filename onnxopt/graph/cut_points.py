"""Values on which all later nodes depend alone: the borders of a chain of segments."""

import onnx_ir as ir

from onnxopt.graph.dependence import Dependence
from onnxopt.graph.layers import WEIGHT_SLOTS

_NO_LAYERS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "PRelu")


def cut_points(model: ir.Model) -> list[list[str]]:
    """Return the values that split the main graph, in graph order, grouped by how many layers are before them.

    A value splits the graph when later nodes read no other value that depends on a layer. The ends of residual blocks
    and all values of a plain chain do; values inside a residual block do not.
    """
    dependence = Dependence(model)
    nodes = dependence.nodes
    position = {id(node): i for i, node in enumerate(nodes)}
    last = {id(v): max((position[id(r)] for r in dependence.readers(v)), default=-1) for n in nodes for v in n.outputs}
    live, behind = dict[int, ir.Value](), set[int]()
    groups: list[list[str]] = [[]]
    for i, node in enumerate(nodes):
        layer = _is_layer(node, dependence)
        if layer:
            groups.append([])
        if layer or any(id(v) in behind for v in dependence.reads(node)):
            behind.update(id(v) for v in node.outputs)
            live |= {id(v): v for v in node.outputs}
        live = {key: v for key, v in live.items() if last[key] > i or v.is_graph_output()}
        if len(live) != 1:
            continue
        (only,) = live.values()
        if only.producer() is node and not only.is_graph_output() and node.op_type != "QuantizeLinear":
            groups[-1].append(only.name or "")
    return [group for group in groups[1:] if group]


def _is_layer(node: ir.Node, dependence: Dependence) -> bool:
    slots = WEIGHT_SLOTS.get(node.op_type, ())
    if node.op_type in _NO_LAYERS or not dependence.data(node):
        return False
    constants = (node.inputs[i] for i in slots if i < len(node.inputs))
    return any(v is not None and dependence.is_constant(v) for v in constants)
