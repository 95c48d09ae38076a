"""Multiply-accumulate operations at a stated input shape."""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

import onnx_ir as ir

from onnxopt.graph.shapes import with_types
from onnxopt.model_file.light import without_large_weights
from onnxopt.model_file.signature import IMAGE_SIDE

Shape = tuple[int, ...]


def with_fixed_shapes(model: ir.Model, sizes: Mapping[str, int]) -> ir.Model:
    """Return the graph with all shapes inferred at fixed input sizes.

    Large weights become inputs of the graph, so that a model of many gigabytes is not read.

    Args:
        model: the input model (not modified).
        sizes: sizes of named dynamic dimensions; without one, sides of images are 224 and all others 1.
    """
    light = model.clone()
    for value in light.graph.inputs:
        if value.shape is not None and value.name not in light.graph.initializers:
            sides = _sides(value.shape)
            value.shape = ir.Shape(
                _fixed(dim, sizes, IMAGE_SIDE if axis in sides else 1) for axis, dim in enumerate(value.shape)
            )
    return with_types(without_large_weights(light)[0])


def _sides(shape: ir.Shape) -> tuple[int, ...]:
    """Return the axes of height and width where an input takes images, whose channels are 1 or 3."""
    dims = list(shape)
    if len(dims) != 4 or (dims[1] in (1, 3)) == (dims[3] in (1, 3)):
        return ()
    return (2, 3) if dims[1] in (1, 3) else (1, 2)


def _fixed(dim: int | ir.SymbolicDim, sizes: Mapping[str, int], usual: int) -> int:
    if isinstance(dim, int) and dim >= 0:
        return dim
    return sizes.get(str(dim.value), usual) if isinstance(dim, ir.SymbolicDim) else usual


def shape_of(value: ir.Value | None) -> Shape | None:
    """Return the shape of a value, or None unless every size is known."""
    if value is None or value.shape is None:
        return None
    # Shape inference of a window larger than its input gives sizes below 1.
    known = tuple(dim for dim in value.shape if isinstance(dim, int) and dim >= 0)
    return known if len(known) == len(value.shape) else None


def macs_of(node: ir.Node) -> int | None:
    """Return the multiply-accumulates of one node: 0 for an operator without any, None if a shape is unknown."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        return 0
    inputs, output = [shape_of(v) for v in node.inputs], shape_of(node.outputs[0])
    try:
        return rule(node, inputs, output)
    except (TypeError, IndexError):  # an operand or one of its sizes is unknown
        return None


Rule = Callable[[ir.Node, list[Shape | None], Shape | None], int]


def _convolution(weight: int) -> Rule:
    def macs(_: ir.Node, inputs: list[Shape | None], output: Shape | None) -> int:
        return prod(output or _unknown()) * prod((inputs[weight] or _unknown())[1:])

    return macs


def _transposed_convolution(_: ir.Node, inputs: list[Shape | None], __: Shape | None) -> int:
    return prod(inputs[0] or _unknown()) * prod((inputs[1] or _unknown())[1:])


def _matrix_product(node: ir.Node, inputs: list[Shape | None], output: Shape | None) -> int:
    first = inputs[0] or _unknown()
    transposed = node.attributes.get_int("transA", 0)
    # Not `output or`: a product of two vectors is a scalar, whose shape is the empty tuple.
    return prod(_unknown() if output is None else output) * first[0 if transposed else -1]


def _recurrent(_: ir.Node, inputs: list[Shape | None], __: Shape | None) -> int:
    steps, batch = (inputs[0] or _unknown())[:2]
    return steps * batch * (prod(inputs[1] or _unknown()) + prod(inputs[2] or _unknown()))


def _einsum(node: ir.Node, inputs: list[Shape | None], _: Shape | None) -> int:
    equation = node.attributes["equation"].as_string().replace(" ", "")
    if "." in equation:
        _unknown()
    sizes = dict[str, int]()
    for term, shape in zip(equation.split("->")[0].split(","), inputs, strict=True):
        sizes.update(zip(term, shape or _unknown(), strict=True))
    return prod(sizes.values())


def _unknown() -> Shape:
    raise TypeError("unknown shape")


_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Conv": _convolution(1),
        "ConvInteger": _convolution(1),
        "QLinearConv": _convolution(3),
        "ConvTranspose": _transposed_convolution,
        **dict.fromkeys(
            ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul"), _matrix_product
        ),
        **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
        "Einsum": _einsum,
    }
)
