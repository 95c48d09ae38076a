"""The layers of a model: its operators with weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from onnxopt.graph.channels.find import normalized
from onnxopt.graph.cost import Shape, macs_of, shape_of, with_fixed_shapes
from onnxopt.graph.probe import probe

WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger"), (1, 0)),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulNBits", "Einsum"), (1, 0)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), (3,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), (1,)),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "InstanceNormalization", "PRelu"), (1,)),
    "Gather": (0,),
}
"""Input slots of an operator that may hold its weight; a product may have it on either side."""

_TRANSPARENT = ("Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "DequantizeLinear")
_NOT_WEIGHTS = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


@dataclass(frozen=True)
class Layer:
    """One operator with weights.

    Attributes:
        weight_shape: shape of its weight, as the operator reads it.
        parameters: elements of all its constants; constants shared by layers count for each.
        macs: multiply-accumulates at the stated input shape; None if a shape is unknown.
        output_shape: shape of its output at the stated input shape; None if unknown.
    """

    name: str
    op_type: str
    weight_shape: Shape | None
    parameters: int
    macs: int | None
    output_shape: Shape | None


@dataclass(frozen=True)
class Anatomy:
    """The layers of a model, and their totals.

    Attributes:
        input_shapes: the shapes that the MACs are stated for.
        macs: multiply-accumulates of all nodes.
        macs_unknown: number of nodes that `macs` does not include, because a shape is unknown.
        parameters: elements of all weights, each counted once.
        operators: number of nodes by operator.
        macs_of_operators: multiply-accumulates by operator; None if those of a node are unknown.
    """

    layers: tuple[Layer, ...]
    input_shapes: Mapping[str, Shape | None]
    macs: int
    macs_unknown: int
    parameters: int
    operators: Mapping[str, int]
    macs_of_operators: Mapping[str, int | None] = field(default_factory=dict)


def anatomy_of(model: ir.Model, sizes: Mapping[str, int] | None = None) -> Anatomy:
    """Return the layers of `model`, with costs at the input shape where dynamic sizes are `sizes`, else 1."""
    fixed = with_fixed_shapes(model, sizes or {})
    _follow_shapes(fixed, model)
    weights = {v.name for v in _initializers(model)}
    layers, macs, unknown = [], 0, 0
    operators = dict[str, int]()
    by_operator = dict[str, int | None]()
    for node in fixed.graph.all_nodes():
        cost = macs_of(node)
        macs, unknown = macs + (cost or 0), unknown + (cost is None)
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        so_far = by_operator.get(node.op_type, 0)
        by_operator[node.op_type] = None if cost is None or so_far is None else so_far + cost
        weight = next((v for v in _slots(node) if v is not None and _constant(v, weights)), None)
        if weight is not None:
            constants = {v for v in node.inputs if v is not None and _constant(v, weights)}
            parameters = sum(prod(shape_of(v) or (0,)) for v in constants)
            layers.append(
                Layer(node.name or "", node.op_type, shape_of(weight), parameters, cost, shape_of(node.outputs[0]))
            )
    fed = [v for v in fixed.graph.inputs if v.name not in weights]
    return Anatomy(
        tuple(layers),
        {v.name or "": shape_of(v) for v in fed},
        macs,
        unknown,
        _parameters(model),
        dict(sorted(operators.items())),
        by_operator,
    )


def _follow_shapes(fixed: ir.Model, model: ir.Model) -> None:
    """Add shapes that ONNX's inference misses because they depend on computed sizes."""
    unknown = [v for node in fixed.graph for v in node.outputs if shape_of(v) is None]
    if not unknown:
        return
    fed = {v.name or "": shape_of(v) for v in fixed.graph.inputs}
    shapes = probe(normalized(model), {name: shape for name, shape in fed.items() if shape is not None}).shapes
    for value in unknown:
        if value.name in shapes:
            value.shape = ir.Shape(shapes[value.name])


def _slots(node: ir.Node) -> Iterator[ir.Value | None]:
    return (node.inputs[i] for i in WEIGHT_SLOTS.get(node.op_type, ()) if i < len(node.inputs))


def _constant(value: ir.Value, weights: set[str | None]) -> bool:
    """Return whether a value is a weight, possibly behind nodes that convert its storage form."""
    node = value.producer()
    if node is None:
        return value.name in weights
    if node.op_type in _TRANSPARENT and node.inputs and node.inputs[0] is not None:
        return _constant(node.inputs[0], weights)
    return node.op_type == "Constant"


def _initializers(model: ir.Model) -> list[ir.Value]:
    graphs = [model.graph, *model.graph.subgraphs()]
    return list({id(v): v for graph in graphs for v in graph.initializers.values()}.values())


def _parameters(model: ir.Model) -> int:
    tensors = [v.const_value for v in _initializers(model)]
    tensors += [n.attributes["value"].as_tensor() for n in model.graph.all_nodes() if _holds_tensor(n)]
    return sum(prod(t.shape.numpy()) for t in tensors if t is not None and t.dtype not in _NOT_WEIGHTS)


def _holds_tensor(node: ir.Node) -> bool:
    return node.op_type == "Constant" and "value" in node.attributes
