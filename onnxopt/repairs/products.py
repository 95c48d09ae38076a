"""Products whose stored weights the runtime converts to floats because of their form or their neighbours."""

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxopt.graph.clamped import behind, keep_apart
from onnxopt.graph.edit import constant_of, set_weight
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.pipeline import Skip
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.target import Target

_PRODUCTS = ("Gemm", "MatMul")


class StoredProducts(Repair):
    """Make the runtime multiply with stored integers, as MatMulNBits, instead of converting them in every run.

        Gemm(x, DequantizeLinear(W), transB=1)      ->   Gemm(x, DequantizeLinear(W transposed))
        Relu(Gemm(x, DequantizeLinear(W)))          ->   Max(Gemm(x, DequantizeLinear(W)), 0)

    The runtime does not fuse a weight that Gemm transposes, nor that of a product with Relu or Clip behind it. Float
    kernels add the products of a transposed weight in another order.
    """

    code: ClassVar[str] = "CHK404"
    does: ClassVar[str] = "write products so that the runtime multiplies with the stored integers"
    reordering: ClassVar[float] = 1e-6

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return Gemm nodes to transpose, and Relu and Clip nodes to replace."""
        products = _of_stored(model)
        if not products:
            return Faults()
        sites, where, left = list[str](), list[str](), list[Skip]()
        for fused in optimized_model(model, Runtime()).graph:
            product = products.get(_stored_name(fused) if fused.op_type in ("Gemm", "FusedGemm", "MatMul") else None)
            if product is None:
                continue
            turned = product.op_type == "Gemm" and bool(product.attributes.get_int("transB", 0))
            reason = _obstacle(product) if turned else ""
            end = behind(product)
            ends = [] if end is None else [end]
            if reason:
                left.append(Skip(_called(product), reason))
            elif turned or ends:
                changed = [*([product] if turned else []), *ends]
                sites += [node.outputs[0].name or "" for node in changed]
                where += [_called(node) for node in changed]
        return Faults(tuple(sites), tuple(where), tuple(left))

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Transpose weights, and replace Relu and Clip by Max and Min."""
        writer, sites = NodeWriter(model, "repair"), set(found.sites)
        for node in [n for n in model.graph if n.outputs[0].name in sites]:
            if node.op_type in _PRODUCTS:
                _transpose(model, node)
            else:
                keep_apart(writer, node)


def _of_stored(model: ir.Model) -> dict[str | None, ir.Node]:
    """Return the products with stored weights, by the names of the integers."""
    found = dict[str | None, ir.Node]()
    for node in model.graph:
        if node.op_type in _PRODUCTS and (name := _stored_name(node)) is not None:
            found[name] = node
    return found


def _stored_name(node: ir.Node) -> str | None:
    """Return the name of the integers that are a product's second factor; None without any."""
    second = node.inputs[1] if len(node.inputs) > 1 else None
    dequantized = None if second is None else second.producer()
    if dequantized is None or dequantized.op_type != "DequantizeLinear":
        return None
    integers = dequantized.inputs[0]
    return integers.name if integers is not None and constant_of(integers) is not None else None


def _obstacle(product: ir.Node) -> str:
    second = product.inputs[1]
    dequantized = None if second is None else second.producer()
    assert second is not None
    assert dequantized is not None
    if len(second.uses()) != 1 or second.is_graph_output():
        return "its weight is read by others too"
    for value in dequantized.inputs:
        tensor = None if value is None else constant_of(value)
        if value is not None and (tensor is None or value.is_graph_input()):
            return "its scale or zero point is computed"
    integers = dequantized.inputs[0]
    if integers is not None and len(integers.uses()) != 1:
        return "its integers are read by others too"
    return ""


def _transpose(model: ir.Model, product: ir.Node) -> None:
    second = product.inputs[1]
    dequantized = None if second is None else second.producer()
    assert second is not None
    assert dequantized is not None
    for slot, value in enumerate(dequantized.inputs):
        tensor = constant_of(value)
        if tensor is None or len(tensor.shape) < 2:
            continue
        turned = ir.Value(name=_free(model, f"{value.name}_transposed"))  # type: ignore[union-attr]
        set_weight(turned, np.ascontiguousarray(tensor.numpy().T))
        turned.const_value = ir.tensor(turned.const_value.numpy(), dtype=tensor.dtype, name=turned.name)  # type: ignore[union-attr]
        turned.type = ir.TensorType(tensor.dtype)
        model.graph.register_initializer(turned)
        dequantized.replace_input_with(slot, turned)
    axis = dequantized.attributes.get_int("axis", 1) % 2
    dequantized.attributes["axis"] = ir.AttrInt64("axis", 1 - axis)
    product.attributes.pop("transB")
    second.shape = None if second.shape is None else ir.Shape(list(second.shape)[::-1])


def _free(model: ir.Model, name: str) -> str:
    while name in model.graph.initializers:
        name += "_"
    return name


def _called(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
