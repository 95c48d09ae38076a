"""Loops that state that they never end: whoever runs such a model hangs."""

from collections.abc import Iterator, Mapping

import onnx

from onnxopt.model_file.order import bodies_of

MOST_ROUNDS = 1 << 40
"""A round takes 0.1 microseconds at least, so that these take longer than a day."""

_STANDARD = ("", "ai.onnx")


def endless_loops(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield Loops without a trip count that ends, whose condition is true and stays so, in a model of valid tensors."""
    bodies = list(bodies_of(proto))
    nodes = [node for body in bodies for node in body.node if node.domain in _STANDARD]
    loops = [node for node in nodes if node.op_type == "Loop"]
    if not loops:
        return
    known = _scalars(proto, nodes)
    for loop in loops:
        rounds, condition = (*loop.input, "", "")[:2]
        many = not rounds or known.get(rounds, 0) >= MOST_ROUNDS
        if many and (not condition or known.get(condition) == 1) and _goes_on(loop, known):
            yield loop


def _goes_on(loop: onnx.NodeProto, known: Mapping[str, int]) -> bool:
    """Return whether the body hands the condition on as it is, or gives one that is always true."""
    body = next((a.g for a in loop.attribute if a.name == "body"), None)
    if body is None or len(body.input) < 2 or not body.output:
        return False
    copies = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    name = body.output[0].name
    while name in copies:
        name = copies[name]
    return bool(name == body.input[1].name or known.get(name) == 1)


def _scalars(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> dict[str, int]:
    """Return whole numbers and truth values that cannot change, by name; a name of two values is left out."""
    tensors = [(tensor.name, tensor) for body in bodies_of(proto) for tensor in getattr(body, "initializer", ())]
    for node in nodes:
        if node.op_type == "Constant":
            tensors += [(node.output[0], a.t) for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    found, lost = dict[str, int](), {value.name for value in proto.graph.input}
    for name, tensor in tensors:
        if tensor.data_type not in (onnx.TensorProto.BOOL, onnx.TensorProto.INT64):
            continue
        if tensor.data_location == onnx.TensorProto.EXTERNAL or list(tensor.dims) not in ([], [1]):
            continue
        value = int(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
        lost |= {name} if found.setdefault(name, value) != value else set()
    return {name: value for name, value in found.items() if name not in lost}
