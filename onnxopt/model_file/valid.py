"""The rules of ONNX that every later step relies on, checked once where a file enters."""

import math
from collections import Counter
from collections.abc import Iterator

import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from onnxopt.model_file.normal import bodies_of, invalid, label
from onnxopt.model_file.proto import missing_values, tensors_of

MAX_RANK = 256
_STRING = onnx.TensorProto.STRING
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def refuse_invalid(proto: onnx.ModelProto, where: str) -> None:
    """Check tensors against their data, the types of inputs and attributes, the imports, and who gives each value.

    Raises:
        ModelError: ONX305, naming the first thing that breaks a rule.
    """
    for why in _faults(proto):
        raise invalid(why, where)


def _faults(proto: onnx.ModelProto) -> Iterator[str]:
    yield from _of_tensors(proto)
    for value in proto.graph.input:
        why = _type_fault(value.type)
        if why:
            yield f"the input {value.name!r} {why}"
    imported = {_domain(o.domain) for o in proto.opset_import}
    imported_twice = [d for d, n in Counter(_domain(o.domain) for o in proto.opset_import).items() if n > 1]
    if imported_twice:
        yield f"the operator set {imported_twice[0]!r} is imported twice"
    for body in bodies_of(proto):
        for node in body.node:
            if not node.op_type:
                yield f"node {label(node)} has no operator"
            # A function states its own imports.
            if isinstance(body, onnx.GraphProto) and _domain(node.domain) not in imported:
                yield f"node {label(node)} is of the operator set {node.domain!r}, which the model does not import"
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.UNDEFINED:
                    yield f"the attribute {attribute.name!r} of node {label(node)} has no type"
        yield from _given_twice(body)
    for missing in missing_values(proto.graph):
        yield f"nothing gives {missing!r}, which is read or is an output"


def _given_twice(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[str]:
    # A weight may share its name with an input, whose default it is then; nothing else may.
    first = [v.name for v in body.input] if isinstance(body, onnx.GraphProto) else list(body.input)
    known = set(first)
    if len(known) < len(first):
        yield f"the input {next(n for n, c in Counter(first).items() if c > 1)!r} is stated twice"
    if isinstance(body, onnx.GraphProto):
        weights = Counter(tensor.name for tensor in body.initializer)
        yield from (f"the weight {name!r} is given twice" for name, count in weights.items() if count > 1)
        known |= set(weights)
    for name in (name for node in body.node for name in node.output if name):
        if name in known:
            yield f"{name!r} is given twice"
        known.add(name)


def _of_tensors(proto: Message) -> Iterator[str]:
    for tensor in tensors_of(proto):
        try:
            kind = ir.DataType(tensor.data_type)
        except ValueError:
            kind = ir.DataType.UNDEFINED
        about = f"the tensor {tensor.name!r}"
        if kind is ir.DataType.UNDEFINED:
            yield f"{about} has no type that ONNX knows ({tensor.data_type})"
        elif any(d < 0 for d in tensor.dims) or len(tensor.dims) > MAX_RANK:
            yield f"{about} has the shape {list(tensor.dims)[:8]}"
        elif tensor.data_location != onnx.TensorProto.EXTERNAL:
            need, have = _size_stated(tensor, kind), _size_held(tensor)
            if need != have:
                yield f"{about} states {need} {'bytes' if tensor.HasField('raw_data') else 'values'}, but holds {have}"


def _size_stated(tensor: onnx.TensorProto, kind: ir.DataType) -> int:
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        return math.ceil(elements * kind.itemsize) if tensor.data_type != _STRING else -1
    if kind in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * elements
    packed = tensor.data_type != _STRING and kind.itemsize < 1
    return math.ceil(elements * kind.itemsize) if packed else elements


def _size_held(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data) if tensor.HasField("raw_data") else sum(len(getattr(tensor, f)) for f in _TYPED)


def _type_fault(kind: onnx.TypeProto) -> str:
    which = kind.WhichOneof("value")
    if which is None:
        return "has no type"
    if which not in ("tensor_type", "sparse_tensor_type"):
        return ""
    element = getattr(kind, which).elem_type
    try:
        known = ir.DataType(element) is not ir.DataType.UNDEFINED
    except ValueError:
        known = False
    return "" if known else f"has an element type that ONNX does not know ({element})"


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
