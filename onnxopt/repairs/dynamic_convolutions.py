"""Convolutions that quantize their inputs anew in every run."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import constant_of
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.pipeline import Skip
from onnxopt.repairs.fault import Faults, Repair
from onnxopt.repairs.unused import drop_dead
from onnxopt.target import Target


class DynamicConvolutions(Repair):
    """Convolve in float: ConvInteger has no fast kernel and is several times slower than Conv.

        DynamicQuantizeLinear -> ConvInteger(W int8) -> Cast -> Mul   ->   Conv(Mul(Cast(W int8), scale))

    Weights stay stored as integers and become floats when the model is loaded, so the file keeps its size. The inputs
    are no longer rounded.
    """

    code: ClassVar[str] = "CHK406"
    does: ClassVar[str] = "convolve in float with the stored weights"
    exact: ClassVar[bool] = False

    def find(self, model: ir.Model, target: Target) -> Faults:
        """Return the convolutions whose input and output are scaled in the form that quantizers write."""
        found = [(node, _matched(node)) for node in model.graph if node.op_type == "ConvInteger"]
        good = [node for node, match in found if isinstance(match, _Match)]
        left = tuple(Skip(_called(node), match) for node, match in found if isinstance(match, str))
        return Faults(tuple(n.outputs[0].name or "" for n in good), tuple(map(_called, good)), left)

    def apply(self, model: ir.Model, found: Faults) -> None:
        """Replace each by a Conv."""
        writer, sites = NodeWriter(model, "repair"), set(found.sites)
        for node in [n for n in model.graph if n.outputs[0].name in sites]:
            match = _matched(node)
            assert isinstance(match, _Match)
            _replace(model, writer, node, match)


@dataclass(frozen=True)
class _Match:
    """A convolution on integers: its float input, the weight's scale and zero point, and its last node."""

    source: ir.Value
    scale: np.ndarray
    zero: np.ndarray
    last: ir.Node


def _matched(node: ir.Node) -> _Match | str:
    quantizer = None if node.inputs[0] is None else node.inputs[0].producer()
    if quantizer is None or quantizer.op_type != "DynamicQuantizeLinear" or quantizer.inputs[0] is None:
        return "its input is not quantized in the run"
    zero_x, zero_w = (*node.inputs[2:], None, None)[:2]
    weight = constant_of(node.inputs[1])
    if zero_x is not quantizer.outputs[2] or weight is None or (zero_w is not None and constant_of(zero_w) is None):
        return "its weight or a zero point is computed"
    cast = _only_user(node, "Cast")
    last = None if cast is None else _only_user(cast, "Mul")
    if cast is None or last is None:
        return "its output is not scaled as a whole"
    scales = next((v for v in last.inputs if v is not cast.outputs[0]), None)
    scale = _weight_scale(scales, quantizer.outputs[1])
    if scale is None or scale.size not in (1, int(weight.shape.numpy()[0])):
        return "its scale is not the product of two"
    tensor = constant_of(zero_w)
    zero = np.zeros(1, np.int64) if tensor is None else tensor.numpy().astype(np.int64)
    return _Match(quantizer.inputs[0], scale, zero, last)


def _weight_scale(scales: ir.Value | None, of_input: ir.Value) -> np.ndarray | None:
    """Return the weight's scale, a factor of the product of both scales."""
    product = None if scales is None else scales.producer()
    if product is None or product.op_type != "Mul" or of_input not in product.inputs:
        return None
    tensor = next((t for v in product.inputs if v is not of_input and (t := constant_of(v)) is not None), None)
    return None if tensor is None else tensor.numpy()


def _only_user(node: ir.Node, op_type: str) -> ir.Node | None:
    output = node.outputs[0]
    users = [user for user, _ in output.uses()]
    fits = len(users) == 1 and users[0].op_type == op_type and not output.is_graph_output()
    return users[0] if fits else None


def _replace(model: ir.Model, writer: NodeWriter, node: ir.Node, match: _Match) -> None:
    writer.anchor = node
    weight = writer("Cast", node.inputs[1], kind=ir.DataType.FLOAT, to=int(ir.DataType.FLOAT))
    if match.zero.any():
        weight = writer("Sub", weight, writer.constant(_by_output(match.zero), np.float32))
    weight = writer("Mul", weight, writer.constant(_by_output(match.scale), np.float32))
    result = writer("Conv", match.source, weight, kind=ir.DataType.FLOAT)
    made = result.producer()
    assert made is not None
    made.attributes.update(node.attributes)
    made.name = node.name or made.name
    old = match.last.outputs[0]
    ir.convenience.replace_nodes_and_values(model.graph, match.last, [], [], [old], [result])
    drop_dead(model, [match.last])


def _by_output(array: np.ndarray) -> np.ndarray:
    return array.reshape(()) if array.size == 1 else array.reshape(-1, 1, 1, 1)


def _called(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
