"""What the standard or ONNX Runtime allows in a file but nothing after the seam has to know: put into one form."""

from collections.abc import Iterator, MutableSequence

import numpy as np
import onnx

from onnxopt.errors import ModelError
from onnxopt.model_file.proto import messages_of, subgraphs

MAX_DENSE_BYTES = 1 << 28
"""Of all sparse weights together once they are dense; a file of 100 bytes can state any size."""

_Body = onnx.GraphProto | onnx.FunctionProto


def normalize(proto: onnx.ModelProto, where: str) -> None:
    """Put nodes behind what they read, make sparse weights dense, drop comments that are no text; in place.

    Raises:
        ModelError: ONX305 nodes read each other in a circle; sparse weights are damaged, or too large when dense.
    """
    for message in (proto, *messages_of(proto)):
        if isinstance(getattr(message, "doc_string", ""), bytes):  # protobuf gives text that is no UTF-8 as bytes
            message.ClearField("doc_string")
    bodies = list(bodies_of(proto))
    room = MAX_DENSE_BYTES
    for body in bodies:
        if isinstance(body, onnx.GraphProto) and body.sparse_initializer:
            room = _densify(body, room, where)
        if isinstance(body, onnx.GraphProto):
            for value in (*body.output, *body.value_info):
                if value.type.HasField("tensor_type") and not value.type.tensor_type.elem_type:
                    value.ClearField("type")  # a type that states nothing; it is inferred
        _sort(body.node, where)
    _import_known(proto)


def bodies_of(proto: onnx.ModelProto) -> Iterator[_Body]:
    """Return the graph, the functions, and every graph inside them."""
    waiting: list[_Body] = [proto.graph, *proto.functions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += subgraphs(body)


def _sort(nodes: MutableSequence[onnx.NodeProto], where: str) -> None:
    """Order nodes so that each stands behind what it reads; nodes in order already are left as they are."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{makers[name] for name in _reads(node) if name in makers} for node in nodes]
    if all(max(some, default=-1) < index for index, some in enumerate(needs)):
        return
    order: list[int] = []
    state = [0] * len(needs)  # 1: being looked at, 2: placed
    for first in range(len(needs)):
        stack = [first]
        while stack:
            index = stack[-1]
            if state[index] == 2:
                stack.pop()
                continue
            state[index] = 1
            waiting = sorted(needs[index], reverse=True)
            circle = next((i for i in waiting if state[i] == 1), None)
            if circle is not None:
                raise invalid(f"node {label(nodes[circle])} reads what is made of its own output", where)
            rest = [i for i in waiting if state[i] == 0]
            if rest:
                stack.append(rest[-1])
            else:
                state[index] = 2
                order.append(index)
                stack.pop()
    copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
    del nodes[:]
    nodes.extend(copies)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Return the names a node reads, those that its subgraphs take from around them included."""
    yield from (name for name in node.input if name)
    waiting = [a.g for a in node.attribute if a.HasField("g")] + [g for a in node.attribute for g in a.graphs]
    while waiting:
        graph = waiting.pop()
        own = {v.name for some in (graph.input, graph.initializer) for v in some}
        own |= {name for inner in graph.node for name in inner.output}
        read = [name for inner in graph.node for name in inner.input] + [value.name for value in graph.output]
        yield from (name for name in read if name and name not in own)
        waiting += subgraphs(graph)


def _densify(graph: onnx.GraphProto, room: int, where: str) -> int:
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        try:
            values = onnx.numpy_helper.to_array(sparse.values)
            indices = onnx.numpy_helper.to_array(sparse.indices)
            room -= int(np.prod([float(d) for d in sparse.dims])) * values.dtype.itemsize
            if room < 0:
                raise invalid(f"sparse weights, {name!r} among them, take more than 256 MiB when dense", where)
            dense = np.zeros(tuple(sparse.dims), values.dtype)
            if indices.ndim == 2:
                dense[tuple(indices.T)] = values
            else:
                dense.reshape(-1)[indices] = values
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise invalid(f"the sparse weight {name!r} is damaged: {error}", where) from error
        graph.initializer.append(onnx.numpy_helper.from_array(dense, name))
    del graph.sparse_initializer[:]
    return room


def _import_known(proto: onnx.ModelProto) -> None:
    """Import the runtime's own operators where a node uses them without: ONNX Runtime does so itself."""
    imported = {o.domain for o in proto.opset_import}
    used = {node.domain for body in bodies_of(proto) for node in body.node}
    for domain in sorted((used & {"com.microsoft"}) - imported):
        proto.opset_import.add(domain=domain, version=1)


def label(node: onnx.NodeProto) -> str:
    """Return how a message names a node."""
    made = next(iter(node.output), "")
    return f"{node.name!r} ({node.op_type})" if node.name else f"({node.op_type}) that gives {made!r}"


def invalid(why: str, where: str, hint: str = "Export it again.") -> ModelError:
    """Return the error of a model that breaks a rule of ONNX."""
    return ModelError("ONX305", "the model is invalid", where=where, why=why, hint=hint)
