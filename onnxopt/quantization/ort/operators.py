"""The runtime's quantizer that writes integer operators, on an indexed model."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

from onnxopt.model_file.proto import remove_parts, to_tensor
from onnxopt.quantization.ort import channels
from onnxopt.quantization.ort.channels import floats_of
from onnxopt.quantization.ort.index import IndexedModel
from onnxopt.quantization.rounding.weight_ranges import safe_magnitudes


class NewNodes(list[onnx.NodeProto]):
    """Nodes written so far; iteration yields those of the current node, because the runtime looks for no others."""

    begin = 0

    def __iter__(self) -> Iterator[onnx.NodeProto]:
        return (self[position] for position in range(self.begin, len(self)))


class OperatorQuantizer(ONNXQuantizer):  # type: ignore[misc]  # the runtime has no types
    """Writes integer operators: all dynamic ones, and the static QOperator form.

    Args:
        arguments: those of the runtime's class.
        weights: weights that are inputs of the given model. The runtime copies a model for dynamic quantization three
            times to find its types; of these weights it copies none, and those that stay in float go into the model at
            the end.
        avoid_saturation: limit signed weights of products by their neighbours, in place of the 7 bits that a reduced
            range gives. Layers in sub-graphs, which the runtime hands to its own class, keep 7 bits.
    """

    model: Any
    new_nodes: Any

    def __init__(
        self,
        *arguments: Any,
        weights: Mapping[str, ir.TensorProtocol] | None = None,
        avoid_saturation: bool = False,
    ) -> None:
        self._weights, self._avoid_saturation = weights or {}, avoid_saturation
        super().__init__(*arguments)
        self.new_nodes = NewNodes()

    def calculate_quantization_params(self) -> Any:
        """Return scales and zero points; the last step of the base class that changes the model is before it."""
        graph = self.model.model.graph
        remove_parts(graph.input, [value for value in graph.input if value.name in self._weights])
        for name in self._weights:
            for known in (self.value_infos, self.tensor_names):
                known.pop(name, None)
        self._lent = {name: to_tensor(tensor, name) for name, tensor in self._weights.items()}
        self.model = IndexedModel(self.model.model, self._lent)
        return super().calculate_quantization_params()

    def quantize_model(self) -> Any:
        """Quantize, and give back the weights of the user's model with their shapes: the runtime changes an LSTM's."""
        shapes = {name: tuple(tensor.dims) for name, tensor in self._lent.items()}
        try:
            return super().quantize_model()
        finally:
            for name, shape in shapes.items():
                if tuple(self._lent[name].dims) != shape:
                    self._lent[name].dims[:] = shape

    def should_quantize_node(self, node: onnx.NodeProto) -> bool:
        """Return whether to quantize a node, which is the one current from now on."""
        self.model.seek((*node.input, *node.output))
        if isinstance(self.new_nodes, NewNodes):
            self.new_nodes.begin = len(self.new_nodes)
        return bool(super().should_quantize_node(node))

    def quantize_node_with_sub_graph(self, node: onnx.NodeProto) -> Any:
        """Quantize the subgraphs of a node, which may read every tensor of this graph."""
        with self.model.only(None):
            return super().quantize_node_with_sub_graph(node)

    def quantize_bias_static(self, bias_name: str, input_name: str, weight_name: str, beta: float = 1.0) -> Any:
        """Quantize the bias of the current node."""
        names = [bias_name, input_name, weight_name]
        for name in (input_name, weight_name):
            value = self.quantized_value_map.get(name)
            names += [f"{name}_scale"] if value is None else [value.scale_name, value.zp_name, value.q_name]
        with self.model.only(names):
            return super().quantize_bias_static(bias_name, input_name, weight_name, beta)

    def quantize_weight_per_channel_impl(
        self,
        weight_name: str,
        weight_qType: int,  # the runtime's name
        channel_axis: int,
        reduce_range: bool = True,
        keep_float_weight: bool = False,
    ) -> Any:
        """Write the integers of a weight, all channels at once, and return their name, zero point's and scale's."""
        tensor, ranges = self.model.get_initializer(weight_name), self.tensor_quant_overrides.get(weight_name, [{}])
        made = None
        if tensor is not None and self.is_weight_symmetric(weight_qType):
            weight, narrow = floats_of(tensor), bool(self.reduce_range and reduce_range)
            channel_axis %= max(weight.ndim, 1)
            if narrow and self._limits(weight, weight_qType):
                most, narrow = safe_magnitudes(weight, channel_axis, per_channel=True), False
                ranges = [{"axis": channel_axis, "rmin": -float(limit), "rmax": float(limit)} for limit in most]
            made = channels.parameters(weight, channel_axis, weight_qType, ranges, reduce_range=narrow)
        if made is None:
            return super().quantize_weight_per_channel_impl(
                weight_name, weight_qType, channel_axis, reduce_range, keep_float_weight
            )
        zero_point, scale = made
        names = f"{weight_name}_quantized", f"{weight_name}_zero_point", f"{weight_name}_scale"
        written = [
            onnx.helper.make_tensor(names[2], onnx.TensorProto.FLOAT, scale.shape, scale.tolist()),
            onnx.helper.make_tensor(names[1], weight_qType, scale.shape, zero_point.tolist()),
        ]
        if not keep_float_weight:
            numbers = channels.integers(weight, channel_axis, weight_qType, zero_point, scale)
            written.append(numpy_helper.from_array(numbers, names[0]))
        self.model.initializer_extend(written)
        return names

    def quantize_initializer_impl(
        self,
        weight: onnx.TensorProto,
        qType: int,  # the runtime's name
        reduce_range: bool = False,
        keep_float_weight: bool = False,
    ) -> Any:
        """Write the integers of a weight with one scale, and return their name, zero point's and scale's."""
        array = floats_of(weight)
        if self.reduce_range and reduce_range and self._limits(array, qType):
            most = float(safe_magnitudes(array, array.ndim - 1, per_channel=False))
            self.tensor_quant_overrides[weight.name] = [{"rmin": -most, "rmax": most, "reduce_range": False}]
        return super().quantize_initializer_impl(weight, qType, reduce_range, keep_float_weight)

    def _limits(self, weight: np.ndarray, kind: int) -> bool:
        """Return whether neighbours of this weight limit its range, in place of 7 bits."""
        return (
            self._avoid_saturation
            and kind == onnx.TensorProto.INT8
            and weight.ndim > 1
            and bool(np.isfinite(weight).all())
        )

    def _dequantize_value(self, value_name: str) -> Any:
        value = self.quantized_value_map.get(value_name)
        with self.model.only([] if value is None else [value.scale_name]):
            return super()._dequantize_value(value_name)

    def _dequantize_outputs(self) -> None:
        super()._dequantize_outputs()
        self.model.seek(None)
        self.new_nodes = self.new_nodes[:]
