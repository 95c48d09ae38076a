"""Layers whose weights can take a scaling or a shift of their input or output."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.windows import is_padded

_CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class ScaledLayer:
    """A convolution or Gemm with constant float32 weights that no other node reads.

    Attributes:
        weight: shape (outputs, inputs / groups, kernel...) of a convolution, (inputs, outputs / groups, kernel...) of a
            transposed one, (inputs, outputs) of a Gemm, or (outputs, inputs).
        array: its numbers as float64.
        bias: shape (outputs,), zeros without one.
        groups: the number of groups of a convolution; 1 of a Gemm.
        outputs_first: whether the first axis of the weight is that of the outputs.
        padded: whether zeros may stand beside its input, so that a shift of it cannot become a bias.
    """

    node: ir.Node
    weight: ir.Value
    array: np.ndarray
    bias: np.ndarray
    groups: int
    outputs_first: bool
    padded: bool

    @property
    def has_bias(self) -> bool:
        """Return whether it has a bias, which may be zero."""
        return len(self.node.inputs) > 2 and self.node.inputs[2] is not None

    @property
    def rank(self) -> int:
        """Return the number of axes of its input and output; axis 1 has the channels."""
        return self.array.ndim

    @property
    def outputs(self) -> int:
        """Return the number of output channels."""
        return len(self.bias)

    @property
    def inputs(self) -> int:
        """Return the number of input channels."""
        return int(self.array.shape[1] * self.groups if self.outputs_first else self.array.shape[0])

    def by_output(self, numbers: np.ndarray) -> np.ndarray:
        """Return one number per output channel, or one for all, in a shape that is broadcast to the weight's."""
        return self._spread(numbers, first=self.outputs_first)

    def by_input(self, numbers: np.ndarray) -> np.ndarray:
        """Return the same for input channels."""
        return self._spread(numbers, first=not self.outputs_first)

    def shift_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the increase of each output of an unpadded convolution if its input channels increase by `numbers`."""
        shifted: np.ndarray = self.array * self.by_input(numbers)
        return np.asarray(shifted.sum(axis=tuple(range(1, self.rank))))

    def _spread(self, numbers: np.ndarray, *, first: bool) -> np.ndarray:
        beside = (1,) * (self.rank - 2)
        if numbers.size == 1 or first:
            return numbers.reshape(-1, 1, *beside)
        rows = self.array.shape[0] // self.groups
        return np.repeat(numbers.reshape(self.groups, -1), rows, axis=0).reshape(*self.array.shape[:2], *beside)


@dataclass(frozen=True)
class NewWeights:
    """New weights and biases of a layer, in the shapes of the old ones, as float64."""

    array: np.ndarray
    bias: np.ndarray

    @property
    def finite(self) -> bool:
        """Return whether all of them are finite in float32."""
        largest = np.finfo(np.float32).max
        return all(bool(np.all(np.abs(numbers) <= largest)) for numbers in (self.array, self.bias))


def scaled_layer(node: ir.Node) -> ScaledLayer | None:
    """Return a layer; None if its weights are computed, shared, or not in float32."""
    if node.domain or node.op_type not in (*_CONVOLUTIONS, "Gemm") or len(node.inputs) < 2:
        return None
    weight, array = node.inputs[1], _own(node.inputs[1])
    if weight is None or array is None or len(weight.uses()) != 1 or array.ndim < 2:
        return None
    groups, outputs_first = node.attributes.get_int("group", 1) or 1, node.op_type == "Conv"
    if node.op_type == "Gemm":
        outputs_first = bool(node.attributes.get_int("transB", 0))
        if any(node.attributes.get_float(name, 1.0) != 1 for name in ("alpha", "beta")):
            return None
    outputs = array.shape[0] if outputs_first else array.shape[1] * groups
    bias = np.zeros(outputs)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        given = _own(node.inputs[2])
        if given is None or given.shape not in ((outputs,), (1, outputs)):
            return None
        bias = given.reshape(-1)
    padded = node.op_type != "Conv" or is_padded(node)
    return ScaledLayer(node, weight, array, bias, groups, outputs_first, padded)


def write_scaled_layer(writer: NodeWriter, layer: ScaledLayer, weights: NewWeights) -> None:
    """Replace the weights of a layer; its bias becomes a new constant, because other layers may read the old one."""
    set_weight(layer.weight, weights.array.astype(np.float32))
    if layer.has_bias or np.any(weights.bias):
        layer.node.resize_inputs(3)
        layer.node.replace_input_with(2, writer.constant(weights.bias, np.float32))


def _own(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of a float32 initializer that is neither an input nor an output; None for anything else."""
    tensor = None if value is None or value.producer() is not None else value.const_value
    if value is None or tensor is None or value.is_graph_input() or value.is_graph_output():
        return None
    return tensor.numpy().astype(np.float64) if tensor.dtype is ir.DataType.FLOAT else None
