"""Multiplications and additions of constants, folded into the weights of the layers before or behind them.

        Conv - Mul - Add                     ->   Conv
        Mul - Add - Conv without padding     ->   Conv
        Mul - Add - Conv with zero padding   ->   Add - Conv

ONNX Runtime folds some of the first kind, with a number per channel. What exporters leave is an affine step of one
number behind each convolution and each activation of a re-parameterized network, such as those of PP-LCNetV3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.scales.layer import NewWeights, ScaledLayer, scaled_layer, write_scaled_layer
from onnxopt.graph.scales.reading import constant_numbers, only_user

_MOST_SWEEPS = 16
"""Sweeps over the graph: a chain of steps between two layers folds by one or more steps in each."""


@dataclass(frozen=True)
class _Step:
    """A node that computes `scale * source + shift` with constants, in the shapes of the model."""

    node: ir.Node
    source: ir.Value
    scale: np.ndarray
    shift: np.ndarray

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift))


def fold_scales(model: ir.Model) -> list[str]:
    """Fold scalings and shifts of the main graph into its layers in place, and return the names of the nodes.

    Only constants and weights of float32 are folded.
    """
    writer, names = NodeWriter(model, "folded"), list[str]()
    for _ in range(_MOST_SWEEPS):
        folded = [node for node in list(model.graph) if _fold(model.graph, writer, node)]
        names += [node.name or node.outputs[0].name or "" for node in folded]
        if not folded:
            break
    if names:
        common.RemoveUnusedNodesPass()(model)
    return names


def _fold(graph: ir.Graph, writer: NodeWriter, node: ir.Node) -> bool:
    step = _step(node)
    ways = (_into_source, _into_users, _past_shift)
    return step is not None and any(way(graph, writer, step) for way in ways)


def _step(node: ir.Node) -> _Step | None:
    if node.domain or node.op_type not in ("Mul", "Div", "Add", "Sub") or len(node.inputs) != 2:
        return None
    first, second = (constant_numbers(value) for value in node.inputs)
    number, source = (second, node.inputs[0]) if first is None else (first, node.inputs[1])
    if number is None or source is None or (first is not None and second is not None):
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Mul":
        return _Step(node, source, number, zero)
    if node.op_type == "Add":
        return _Step(node, source, one, number)
    if node.op_type == "Sub":
        return _Step(node, source, one, -number) if first is None else _Step(node, source, -one, number)
    return _Step(node, source, 1 / number, zero) if first is None and np.all(number) else None


def _channels(array: np.ndarray, rank: int, channels: int) -> np.ndarray | None:
    """Return the number per channel, or the one for all, of a constant beside a tensor with channels on axis 1.

    None if it varies along another axis, or if it would make the tensor larger.
    """
    if array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return full.reshape(-1) if full.size == full.shape[1] and full.size in (1, channels) else None


def _into_source(graph: ir.Graph, writer: NodeWriter, step: _Step) -> bool:
    """Fold a step into the layer that computes its source, if it alone reads the source."""
    producer = step.source.producer()
    layer = None if producer is None or only_user(step.source) is not step.node else scaled_layer(producer)
    if layer is None or layer.node.graph is not graph:
        return False
    scale, shift = (_channels(array, layer.rank, layer.outputs) for array in (step.scale, step.shift))
    if scale is None or shift is None:
        return False
    made = NewWeights(layer.array * layer.by_output(scale), layer.bias * scale + shift)
    if not made.finite:
        return False
    write_scaled_layer(writer, layer, made)
    _name_after(step.source, step.node.outputs[0])
    graph.remove(step.node, safe=True)
    return True


def _into_users(graph: ir.Graph, writer: NodeWriter, step: _Step) -> bool:
    """Fold a step into the convolutions that read its result, if nothing else does."""
    made = _with_inputs_changed(graph, step.node.outputs[0], step)
    if not made:
        return False
    for layer, weights in made:
        write_scaled_layer(writer, layer, weights)
    _bypass(graph, step)
    return True


def _past_shift(graph: ir.Graph, writer: NodeWriter, step: _Step) -> bool:
    """Fold a scaling into the convolutions behind a shift, which is divided by it: s x + t = s (x + t / s)."""
    after = only_user(step.node.outputs[0])
    shift = None if after is None or after.graph is not graph or step.shifts else _step(after)
    if after is None or shift is None or not shift.shifts or np.any(shift.scale != 1) or not np.all(step.scale):
        return False
    place = 1 if after.inputs[0] is step.node.outputs[0] else 0
    number = constant_numbers(after.inputs[place])
    made = _with_inputs_changed(graph, after.outputs[0], step)
    if number is None or not made:
        return False
    for layer, weights in made:
        write_scaled_layer(writer, layer, weights)
    after.replace_input_with(place, writer.constant(number / step.scale, np.float32))
    _bypass(graph, step)
    return True


def _with_inputs_changed(graph: ir.Graph, value: ir.Value, step: _Step) -> Sequence[tuple[ScaledLayer, NewWeights]]:
    """Return the layers that read `value`, with weights for the source of a step in its place; empty if one cannot.

    A Gemm is no such layer: a scaling and a shift before it are those of a layer norm, which the runtime would no
    longer recognize.
    """
    made = []
    for node, place in value.uses():
        layer = scaled_layer(node) if place == 0 and node.graph is graph and node.op_type != "Gemm" else None
        if layer is None or (step.shifts and layer.padded):
            return ()
        scale, shift = (_channels(array, layer.rank, layer.inputs) for array in (step.scale, step.shift))
        if scale is None or shift is None:
            return ()
        bias = layer.bias + layer.shift_of(shift) if step.shifts else layer.bias
        weights = NewWeights(layer.array * layer.by_input(scale), bias)
        if not weights.finite:
            return ()
        made.append((layer, weights))
    return () if value.is_graph_output() else made


def _bypass(graph: ir.Graph, step: _Step) -> None:
    step.node.outputs[0].replace_all_uses_with(step.source)
    graph.remove(step.node, safe=True)


def _name_after(value: ir.Value, output: ir.Value) -> None:
    """Replace `output` by `value` in all its readers; an output of the graph keeps its name."""
    named = output.is_graph_output()
    value.type = ir.TensorType(ir.DataType.FLOAT)
    value.shape = output.shape if value.shape is None else value.shape
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    if named:
        value.name, output.name = output.name, value.name
