"""The runtime's quantizers on an indexed model: their work grows with the size of the graph, not with its square.

They look each tensor up by going through all initializers. Here the model gives them only those of the current node
or tensor, and the channels of a weight are computed at once. Methods that a later runtime no longer calls change
nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnxruntime.quantization.base_quantizer import QuantizationParams
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import (
    QDQQuantizer,
    QDQQuantTensorType,
    QDQScaleZpInitializers,
    QDQTensorQuantizedValue,
)
from onnxruntime.quantization.quant_utils import (
    QuantizedValue,
    QuantizedValueType,
    add_dequant_output_suffix,
    add_dequant_suffix,
)

from onnxopt.model_file.proto import remove_parts, to_tensor
from onnxopt.quantization import ort_channels
from onnxopt.quantization.ort_index import IndexedModel


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
    """

    model: Any
    new_nodes: Any

    def __init__(self, *arguments: Any, weights: Mapping[str, ir.TensorProtocol] | None = None) -> None:
        self._weights = weights or {}
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
            weight, narrow = _float_array(tensor), bool(self.reduce_range and reduce_range)
            channel_axis %= max(weight.ndim, 1)
            made = ort_channels.parameters(weight, channel_axis, weight_qType, ranges, reduce_range=narrow)
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
            numbers = ort_channels.integers(weight, channel_axis, weight_qType, zero_point, scale)
            written.append(numpy_helper.from_array(numbers, names[0]))
        self.model.initializer_extend(written)
        return names

    def _dequantize_value(self, value_name: str) -> Any:
        value = self.quantized_value_map.get(value_name)
        with self.model.only([] if value is None else [value.scale_name]):
            return super()._dequantize_value(value_name)

    def _dequantize_outputs(self) -> None:
        super()._dequantize_outputs()
        self.model.seek(None)
        self.new_nodes = self.new_nodes[:]


class PairQuantizer(QDQQuantizer):  # type: ignore[misc]
    """Writes pairs of QuantizeLinear and DequantizeLinear."""

    model: Any
    tensors_to_quantize: dict[str, Any]

    def calc_graph_quant_params(self) -> Any:
        """Return scales and zero points."""
        self.model = IndexedModel(self.model.model)
        return super().calc_graph_quant_params()

    def should_quantize_node(self, node: onnx.NodeProto) -> bool:
        """Return whether to quantize a node, which is the one current from now on."""
        self.model.seek((*node.input, *node.output))
        return bool(super().should_quantize_node(node))

    def is_input_a_initializer(self, input_name: str) -> bool:
        """Return whether a tensor is constant."""
        with self.model.only([input_name]):
            return bool(super().is_input_a_initializer(input_name))

    def _calc_initializer_quant_params(self) -> dict[str, Any]:
        self.model.seek(None)  # the last node has been
        found, of_one = dict[str, Any](), super()._calc_initializer_quant_params
        whole = self.tensors_to_quantize
        self.tensors_to_quantize = {n: i for n, i in whole.items() if self.model.get_initializer(n) is not None}
        self._each("tensors_to_quantize", lambda: found.update(self._of_channels() or of_one()))
        self.tensors_to_quantize = whole
        return found

    def _of_channels(self) -> dict[str, Any]:
        """Return scales and zero points of the current weight, if the runtime would compute them channel by channel."""
        ((name, info),) = self.tensors_to_quantize.items()
        tensor, ranges = self.model.get_initializer(name), self.tensor_quant_overrides.get(name, [{}])
        axis = ranges[0].get("axis", info.axis)
        if tensor is None or axis is None or info.tensor_type is not QDQQuantTensorType.WEIGHT or self.block_size:
            return {}
        kind = self.weight_qType
        made = ort_channels.parameters(_float_array(tensor), axis, kind, ranges, reduce_range=self.reduce_range)
        if made is None:
            return {}
        return {name: QuantizationParams(zero_point=made[0], scale=made[1], quant_type=kind, axis=axis)}

    def _adjust_weight_scale_for_int32_bias(
        self,
        input_scale: np.ndarray,
        weight_scale: np.ndarray,
        weight_name: str,
        bias_tp: onnx.TensorProto,
        is_per_channel: bool,
    ) -> Any:
        """Return whether the scales of a weight had to grow for its bias, and the scales."""
        bias = _float_array(bias_tp)
        if not is_per_channel or weight_scale.ndim != 1 or bias.shape != weight_scale.shape or bias.dtype != np.float32:
            return super()._adjust_weight_scale_for_int32_bias(
                input_scale, weight_scale, weight_name, bias_tp, is_per_channel
            )
        wider = ort_channels.wide_enough(weight_scale, input_scale.item(), bias)
        return wider is not None, weight_scale if wider is None else wider

    def _add_qdq_nodes_for_initializer(self, weight_proto: onnx.TensorProto) -> Any:
        """Write the integers of a weight and the DequantizeLinear behind them."""
        name = weight_proto.name
        given = self.initializer_quant_params[name]
        axis, kind = given.get("axis"), given["quant_type"]
        one_by_one = axis is None or kind not in ort_channels.BYTES or self.block_size or self.add_qdq_pair_to_weight
        if name in self.quantized_value_map or one_by_one:
            return super()._add_qdq_nodes_for_initializer(weight_proto)
        made, read = self._make_scale_zp_initializers(name, given), add_dequant_output_suffix(name)
        self.model.replace_input_of_all_nodes(name, read)
        numbers = ort_channels.integers(_float_array(weight_proto), axis, kind, given["zero_point"], given["scale"])
        stored = numpy_helper.from_array(numbers, f"{name}_quantized")
        self.model.add_initializer(stored)
        of = made.scale.name, made.zero_point.name
        self._create_dq_node(stored.name, read, add_dequant_suffix(name), *of, axis=axis)
        value = QuantizedValue(name, stored.name, *of, QuantizedValueType.Initializer, axis=axis)
        self.quantized_value_map[name] = QDQTensorQuantizedValue(value, None, None)
        return None

    def _make_scale_zp_initializers(
        self, param_name: str, quant_params: QuantizationParams, init_name_suffix: str = ""
    ) -> Any:
        """Write a scale and a zero point, and return both."""
        zero_point, scale, kind = (quant_params[key] for key in ("zero_point", "scale", "quant_type"))
        if kind not in ort_channels.BYTES or scale.dtype != np.float32 or zero_point.ndim != scale.ndim:
            return super()._make_scale_zp_initializers(param_name, quant_params, init_name_suffix)
        numbers, scales = zero_point.ravel().tolist(), scale.ravel().tolist()
        name = f"{param_name}_zero_point{init_name_suffix}"
        zero_point = self.model.add_array(name, kind, zero_point.shape, int32_data=numbers)
        name = f"{param_name}_scale{init_name_suffix}"
        scale = self.model.add_array(name, onnx.TensorProto.FLOAT, scale.shape, float_data=scales)
        return QDQScaleZpInitializers(scale, zero_point)

    def _create_dq_node(self, dq_input: str, dq_output: str, dequant_node_name: str, *scale: str, **more: Any) -> None:
        if len(scale) != 2 or more.get("block_size") or self.qdq_op_domain:
            super()._create_dq_node(dq_input, dq_output, dequant_node_name, *scale, **more)
            return
        axis = more.get("axis")
        self.model.write_node("DequantizeLinear", (dq_input, *scale), dq_output, dequant_node_name, axis=axis)

    def _create_qdq_nodes(self, q_input: str, q_output: str, quant_node_name: str, *rest: Any, **more: Any) -> None:
        if len(rest) != 5 or more.get("block_size") or more.get("axis") is not None or self.qdq_op_domain:
            super()._create_qdq_nodes(q_input, q_output, quant_node_name, *rest, **more)
            return
        dq_input, dq_output, dequant_node_name, *scale = rest
        self.model.write_node("QuantizeLinear", (q_input, *scale), q_output, quant_node_name)
        self.model.write_node("DequantizeLinear", (dq_input, *scale), dq_output, dequant_node_name)

    def _adjust_weight_quant_params_for_bias_tensors(self) -> None:
        self._each("bias_to_quantize", super()._adjust_weight_quant_params_for_bias_tensors)

    def _quantize_normal_tensors(self) -> None:
        self._each("tensors_to_quantize", super()._quantize_normal_tensors)

    def _quantize_bias_tensors(self) -> None:
        self._each("bias_to_quantize", super()._quantize_bias_tensors)

    def _get_tensor_quantization_scale(self, tensor_name: str, consumer_node_name: str) -> Any:
        value, node = self.quantized_value_map.get(tensor_name), self.tensor_to_producing_dq.get(tensor_name)
        names = [] if node is None else [node.input[1]]
        names += [] if value is None else [value.get_for_consumer(consumer_node_name).scale_name]
        with self.model.only(names):
            return super()._get_tensor_quantization_scale(tensor_name, consumer_node_name)

    def _each(self, field: str, work: Callable[[], object]) -> None:
        """Run a method of the base class for each tensor of a field in turn, with the field reduced to it."""
        whole: dict[str, Any] = getattr(self, field)
        rest = dict[str, Any]()
        with self.model.only(None):
            for name, value in whole.items():
                one = {name: value}
                setattr(self, field, one)
                self.model.seek([name])
                work()
                rest |= one
        setattr(self, field, rest)


def _float_array(tensor: onnx.TensorProto) -> np.ndarray:
    array: np.ndarray = numpy_helper.to_array(tensor)
    return array
