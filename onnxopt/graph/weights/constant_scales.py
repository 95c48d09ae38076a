"""Scales that must be constants when ONNX Runtime loads a model.

Its MatMulNBits packs scales at loading for products in integers (`accuracy_level=4`). Scales that come from a node are
not packed, and the product is zero, without an error (measured with 1.32 on x86-64).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import add_weight, tensor_in
from onnxopt.graph.names import free_name, names_in

_IN_INTEGERS = 4
"""The level of MatMulNBits that multiplies integers."""
_SCALES = 2
"""The place of the scales among its inputs."""
_OF_ONE_TYPE = (0, _SCALES, 5)
"""Places of inputs that have one type: activations, scales and the bias."""


def packs_scales(node: ir.Node) -> bool:
    """Return whether the runtime packs the scales of this node at loading."""
    return node.op_type == "MatMulNBits" and node.attributes.get_int("accuracy_level", 0) == _IN_INTEGERS


def must_be_constant(value: ir.Value) -> bool:
    """Return whether this value is read as scales that are packed at loading."""
    return any(place == _SCALES and packs_scales(node) for node, place in value.uses())


def has_made_scales(node: ir.Node) -> bool:
    """Return whether a node makes the scales of this product, which should be constants."""
    scales = node.inputs[_SCALES] if packs_scales(node) else None
    return scales is not None and scales.producer() is not None


def widen_products(model: ir.Model, products: Sequence[ir.Node]) -> None:
    """Have products with weights of a few bits compute in float32, in place; their neighbours stay in float16.

    MatMulNBits(x, W, scales float16)   ->   Cast(MatMulNBits(Cast(x), W, scales float32))
    """
    taken, weights = names_in(model), dict[ir.Value, ir.Value]()
    for product in products:
        for value in filter(None, product.inputs):
            if value.dtype is ir.DataType.FLOAT16 and value.const_value is not None and value not in weights:
                wide = ir.tensor(tensor_in(value).numpy().astype(np.float32))
                weights[value] = add_weight(model.graph, free_name(taken, f"{value.name}_float32"), wide)
        _widen(product, weights, taken)
    for value in weights:
        if not value.uses() and value.name in model.graph.initializers:
            model.graph.initializers.pop(value.name or "")


def _widen(product: ir.Node, weights: Mapping[ir.Value, ir.Value], taken: set[str]) -> None:
    old, graph, casts = product.outputs[0], product.graph, list[ir.Node]()
    assert graph is not None

    def cast(value: ir.Value, kind: ir.DataType) -> ir.Value:
        name = free_name(taken, f"{value.name}_{kind.name.lower()}")
        casts.append(ir.node("Cast", [value], {"to": int(kind)}, name=name))
        made = casts[-1].outputs[0]
        made.name, made.shape, made.type = name, value.shape, ir.TensorType(kind)
        return made

    def wide(place: int, value: ir.Value | None) -> ir.Value | None:
        # Types of values between nodes may be unknown; those of these inputs are that of the scales.
        if value is not None and value.const_value is None and place in _OF_ONE_TYPE:
            return cast(value, ir.DataType.FLOAT)
        return None if value is None else weights.get(value, value)

    inputs = [wide(place, value) for place, value in enumerate(product.inputs)]
    made = ir.Node(product.domain, product.op_type, inputs, list(product.attributes.values()), name=product.name)
    made.outputs[0].name = free_name(taken, f"{old.name}_float")
    made.outputs[0].shape, made.outputs[0].type = old.shape, ir.TensorType(ir.DataType.FLOAT)
    narrow = cast(made.outputs[0], ir.DataType.FLOAT16)
    new = [*casts[:-1], made, casts[-1]]
    ir.convenience.replace_nodes_and_values(graph, product, [product], new, [old], [narrow])
