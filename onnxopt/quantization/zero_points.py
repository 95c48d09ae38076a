"""Equal zero points of a quantized graph, held once.

The runtime's quantizers write one for each tensor: a third of the weights of a graph of thousands of layers, which ONNX
Runtime loads in two thirds of the time without them.
"""

from collections.abc import Sequence

import onnx

from onnxopt.model_file.order import Body
from onnxopt.model_file.proto import remove_parts

_SUFFIX = "_zero_point"


def share_zero_points(proto: onnx.ModelProto, bodies: Sequence[Body]) -> None:
    """Let all readers of equal zero points in the main graph read the first, in place.

    Args:
        proto: the model.
        bodies: its graph and those inside it, as `bodies_of` gives them.
    """
    graph = proto.graph
    ends = {value.name for some in (graph.input, graph.output) for value in some}
    first, renamed, removed = dict[tuple[object, ...], str](), dict[str, str](), list[onnx.TensorProto]()
    for tensor in graph.initializer:
        # Integers of up to 32 bits are in one of two fields; anything else is not looked at.
        if not tensor.name.endswith(_SUFFIX) or tensor.name in ends or not (tensor.raw_data or tensor.int32_data):
            continue
        same = first.setdefault(_content(tensor), tensor.name)
        if same != tensor.name:
            renamed[tensor.name] = same
            removed.append(tensor)
    own = _declared_inside(bodies)
    renamed = {name: same for name, same in renamed.items() if not {name, same} & own}
    if not renamed:
        return
    remove_parts(graph.initializer, [tensor for tensor in removed if tensor.name in renamed])
    for node in (node for body in bodies if isinstance(body, onnx.GraphProto) for node in body.node):
        for slot, name in enumerate(node.input):
            if name in renamed:
                node.input[slot] = renamed[name]


def _content(tensor: onnx.TensorProto) -> tuple[object, ...]:
    return tensor.data_type, tuple(tensor.dims), tensor.raw_data, tuple(tensor.int32_data)


def _declared_inside(bodies: Sequence[Body]) -> set[str]:
    """Return the names that subgraphs declare themselves, under which they do not read the main graph."""
    inner = [body for body in bodies[1:] if isinstance(body, onnx.GraphProto)]  # the first is the main graph
    declared = {value.name for body in inner for some in (body.input, body.initializer) for value in some}
    return declared | {name for body in inner for node in body.node for name in node.output}
