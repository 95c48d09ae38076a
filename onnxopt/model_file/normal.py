"""Normalization of models after loading: forms that the standard or the runtime allows become one."""

import numpy as np
import onnx

from onnxopt.errors import ModelError
from onnxopt.model_file.order import bodies_of, sort_nodes
from onnxopt.model_file.proto import messages_of

MAX_DENSE_BYTES = 1 << 28
"""Of all sparse weights together once they are dense; a file of 100 bytes can state any size."""


def normalize(proto: onnx.ModelProto, where: str) -> None:
    """Put nodes behind their sources, make sparse weights dense, drop comments that are not text; in place.

    Raises:
        ModelError: ONX305 nodes read each other in a circle; sparse weights are damaged, or too large when dense.
    """
    for message in (proto, *messages_of(proto)):
        if isinstance(getattr(message, "doc_string", ""), bytes):  # protobuf gives text that is not UTF-8 as bytes
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
        circle = sort_nodes(body)
        if circle is not None:
            raise invalid(f"node {label(circle)} depends on its own output", where)
    _import_known(proto)


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
    """Return the name of a node in messages."""
    made = next(iter(node.output), "")
    return f"{node.name!r} ({node.op_type})" if node.name else f"({node.op_type}) that gives {made!r}"


def invalid(why: str, where: str, hint: str = "Export it again.") -> ModelError:
    """Return the error of a model that breaks a rule of ONNX."""
    return ModelError("ONX305", "the model is invalid", where=where, why=why, hint=hint)
