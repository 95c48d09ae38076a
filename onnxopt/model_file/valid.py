"""The rules of ONNX that every later step relies on, checked once where a file enters."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from onnxopt.model_file.endless import endless_loops
from onnxopt.model_file.normal import invalid, label
from onnxopt.model_file.order import bodies_of
from onnxopt.model_file.proto import missing_values, stored_tensors

MAX_RANK = 256
MAX_VERSION = 2**31 - 1
_STRING = onnx.TensorProto.STRING
_KINDS = dict(onnx.AttributeProto.AttributeType.items())
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
    for body in bodies_of(proto):
        yield from _of_body(proto, body)
    for function in proto.functions:
        yield from _of_function(function)
    for missing in missing_values(proto.graph):
        yield f"nothing gives {missing!r}, which is read or is an output"
    for loop in endless_loops(proto):
        yield f"node {label(loop)} never ends: it has no trip count that ends it, and its condition stays true"


def _of_body(proto: onnx.ModelProto, body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[str]:
    """Check the main graph, the body of a control flow operator or a function."""
    in_graph = isinstance(body, onnx.GraphProto)
    imported = {_domain(o.domain) for o in proto.opset_import}
    for node in body.node:
        if not node.op_type:
            yield f"node {label(node)} has no operator"
        # A function states its own imports.
        if in_graph and _domain(node.domain) not in imported:
            yield f"node {label(node)} is of the operator set {node.domain!r}, which the model does not import"
        missing = ((attribute.name, _missing(attribute)) for attribute in node.attribute)
        yield from (f"the attribute {name!r} of node {label(node)} has no {part}" for name, part in missing if part)
    yield from _given_twice(body)
    if isinstance(body, onnx.GraphProto) and body is not proto.graph:
        yield from _not_made_inside(body)
    own = body.opset_import if isinstance(body, onnx.FunctionProto) else proto.opset_import
    for o in own:
        if not 0 < o.version <= MAX_VERSION:
            yield f"the operator set {o.domain!r} is imported in version {o.version}"
    versions = {_domain(o.domain): o.version for o in own}
    for node in body.node:
        yield from _of_node(node, versions)


def _missing(attribute: onnx.AttributeProto) -> str:
    """Return the part that an attribute lacks, or ""; in a function its caller may give the value."""
    if attribute.type == onnx.AttributeProto.UNDEFINED:
        return "type"
    field = {onnx.AttributeProto.TENSOR: "t", onnx.AttributeProto.GRAPH: "g"}.get(attribute.type)
    empty = field is not None and not attribute.ref_attr_name and not attribute.HasField(field)
    return "value" if empty else ""


def _of_function(function: onnx.FunctionProto) -> Iterator[str]:
    inside = onnx.GraphProto(
        node=function.node,
        input=[onnx.ValueInfoProto(name=name) for name in function.input],
        output=[onnx.ValueInfoProto(name=name) for name in function.output],
    )
    for missing in missing_values(inside):
        yield f"in the function {function.name!r}, nothing gives {missing!r}, which is read or is an output"


def _of_node(node: onnx.NodeProto, versions: Mapping[str, int]) -> Iterator[str]:
    """Return the differences of a standard operator's node from its schema; ONNX Runtime refuses all of them too."""
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(_domain(node.domain), 0), _domain(node.domain))
    except onnx.defs.SchemaError:
        return  # no operator of the standard; whether the runtime knows it is for it to say
    for what, names, least, most in (
        ("inputs", node.input, schema.min_input, schema.max_input),
        ("outputs", node.output, schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most:
            yield f"node {label(node)} has {len(names)} {what}, its operator {least} to {most}"
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, stated in schema.attributes.items():
        attribute = given.get(name)
        if attribute is None:
            if stated.required:
                yield f"node {label(node)} has no attribute {name!r}, which its operator needs"
        elif attribute.type != _KINDS[kind := str(stated.type).rpartition(".")[2]]:
            yield f"the attribute {name!r} of node {label(node)} is of another kind than {kind}"


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


def _not_made_inside(branch: onnx.GraphProto) -> Iterator[str]:
    """Return outputs of an inner graph that come from around it; ONNX Runtime asks for an Identity between."""
    own = {v.name for some in (branch.input, branch.initializer) for v in some}
    own |= {tensor.values.name for tensor in branch.sparse_initializer}
    own |= {name for node in branch.node for name in node.output}
    for value in branch.output:
        if value.name not in own:
            yield f"the inner graph {branch.name!r} gives {value.name!r}, which nothing inside it makes"


def _of_tensors(proto: Message) -> Iterator[str]:
    for tensor in stored_tensors(proto):
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
