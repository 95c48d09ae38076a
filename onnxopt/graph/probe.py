"""Concrete shapes of every value, and values of small constants and shape computations, at chosen input sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnxopt.graph.cost import Shape

_SMALL = 4096
"""Most elements of a shape or an index list; larger constants count as weights."""
_FOLDED = (
    "Abs Add And Cast Ceil Concat ConstantOfShape Div Equal Expand Floor Gather Greater GreaterOrEqual Identity Less "
    "LessOrEqual Max Min Mod Mul Neg Not Or Pow Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round Slice "
    "Split Sqrt Squeeze Sub Tile Transpose Unsqueeze Where"
)
"""Operators of shape computations; their results are followed if they are small."""
_SAME_SHAPE = ("GroupNormalization",)
"""Function operators without shape inference; the output has the shape of the first input."""
_SIZES = ((2, 8, 3, 16), (2, 32, 3, 64), (2, 5, 3, 7), (2, 224, 3, 256), (2, 1, 3, 1))
"""Batch size and other dynamic sizes of a first and a second probe, in the order of the attempts."""


@dataclass
class Probe:
    """Known shapes and values, by name, at one choice of the dynamic sizes.

    Attributes:
        fed: shape of each input.
        failures: nodes whose shapes could not be inferred.
    """

    fed: dict[str, Shape]
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    failures: int = 0

    def put(self, name: str, array: np.ndarray) -> None:
        """Store the value of a small tensor."""
        self.values[name], self.shapes[name] = array, array.shape
        self.dtypes[name] = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)


def two_probes(model: ir.Model) -> tuple[Probe, Probe]:
    """Return probes at two choices of the dynamic sizes, whose differences show the values that depend on them."""
    best: tuple[Probe, Probe] | None = None
    for batch, other, batch_2, other_2 in _SIZES:
        pair = probe(model, fed_shapes(model, batch, other)), probe(model, fed_shapes(model, batch_2, other_2))
        if best is None or pair[0].failures + pair[1].failures < best[0].failures + best[1].failures:
            best = pair
        if not best[0].failures + best[1].failures:
            break
    assert best is not None
    return best


def fed_shapes(model: ir.Model, batch: int, other: int) -> dict[str, Shape]:
    """Return a shape for each input: dynamic first dimensions are `batch`, further ones `other`."""
    shapes = dict[str, Shape]()
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.shape is None:
            continue
        dims = enumerate(value.shape)
        shapes[value.name or ""] = tuple(
            d if isinstance(d, int) and d > 0 else (batch if i == 0 else other) for i, d in dims
        )
    return shapes


def probe(model: ir.Model, fed: Mapping[str, Shape]) -> Probe:
    """Follow concrete shapes through the main graph; shapes that cannot be inferred are left out."""
    found = Probe(dict(fed), dict(fed))
    for value in model.graph.inputs:
        if value.dtype is not None:
            found.dtypes[value.name or ""] = int(value.dtype)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        found.shapes[name], found.dtypes[name] = tuple(int(d) for d in tensor.shape.numpy()), int(tensor.dtype)
        numeric = tensor.dtype is not ir.DataType.STRING and (tensor.dtype.is_integer() or tensor.size <= 16)
        if numeric and tensor.size <= _SMALL:
            found.values[name] = tensor.numpy()
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    for node in model.graph:
        _follow(node, found, opsets)
    return found


def _follow(node: ir.Node, found: Probe, opsets: list[Any]) -> None:
    """Add the shapes and values of the outputs of `node`, as far as they are known."""
    if not _is_readable(node, found) or _put_sizes(node, found):
        return
    proto = ir.to_proto(node)
    if not _put_values(node, proto, found, opsets):
        _put_shapes(node, proto, found, opsets)


def _is_readable(node: ir.Node, found: Probe) -> bool:
    """Return whether the node has no body and all its inputs are known."""
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return False
    names = [v.name for v in node.inputs if v is not None and v.name]
    return all(name in found.shapes and name in found.dtypes for name in names)


def _put_sizes(node: ir.Node, found: Probe) -> bool:
    """Add the output of a node that needs only the shape of its first input; return whether it is such a node."""
    source = node.inputs[0] if node.inputs else None
    if node.domain or source is None or not source.name:
        return False
    shape, output = found.shapes[source.name], node.outputs[0].name or ""
    if node.op_type == "Shape":
        first, last = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
        found.put(output, np.array(shape, np.int64)[first:last])
    elif node.op_type == "Size":
        found.put(output, np.array(np.array(shape, np.int64).prod(), np.int64))
    elif node.op_type in _SAME_SHAPE:
        found.shapes[output], found.dtypes[output] = shape, found.dtypes[source.name]
    else:
        return False
    return True


def _put_values(node: ir.Node, proto: onnx.NodeProto, found: Probe, opsets: list[Any]) -> bool:
    """Compute the outputs of a node of a shape computation; return whether they are known and small."""
    if (
        node.domain
        or node.op_type not in _FOLDED.split()
        or not all(name in found.values for name in proto.input if name)
    ):
        return False
    try:
        results = _evaluate(proto, found, opsets)
    except Exception:  # the reference implementation has no common exception; shape inference follows instead
        return False
    if not results or not all(isinstance(r, np.ndarray) and r.size <= _SMALL for r in results):
        return False
    for value, result in zip(node.outputs, results, strict=True):
        found.put(value.name or "", result)
    return True


def _put_shapes(node: ir.Node, proto: onnx.NodeProto, found: Probe, opsets: list[Any]) -> None:
    """Infer the shapes of the outputs; record nodes where this fails."""
    try:
        inferred = _inferred(proto, found, opsets)
    except Exception:  # onnx raises several unrelated types here
        found.failures += not node.domain
        return
    for name, kind in inferred.items():
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            continue
        dims = kind.tensor_type.shape.dim
        if all(d.HasField("dim_value") and d.dim_value > 0 for d in dims):
            found.shapes[name] = tuple(d.dim_value for d in dims)
            found.dtypes[name] = kind.tensor_type.elem_type
        elif any(d.HasField("dim_value") and d.dim_value <= 0 for d in dims):
            found.failures += 1


def _evaluate(proto: onnx.NodeProto, found: Probe, opsets: list[Any]) -> list[Any]:
    feeds = {name: found.values[name] for name in proto.input if name}
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in proto.output]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    return list(ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, feeds))


def _inferred(proto: onnx.NodeProto, found: Probe, opsets: list[Any]) -> dict[str, onnx.TypeProto]:
    domains = ("", "ai.onnx") if proto.domain in ("", "ai.onnx") else (proto.domain,)
    version = next((o.version for o in opsets if o.domain in domains), 1)
    schema = onnx.defs.get_schema(proto.op_type, version, domains[0])
    names = [name for name in proto.input if name]
    types = {n: onnx.helper.make_tensor_type_proto(found.dtypes[n], found.shapes[n]) for n in names}
    data = {n: onnx.numpy_helper.from_array(found.values[n]) for n in names if n in found.values}
    return onnx.shape_inference.infer_node_outputs(schema, proto, types, data, None, opsets, 10)
