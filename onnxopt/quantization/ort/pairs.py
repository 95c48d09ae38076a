"""The runtime's quantizer that writes pairs of conversions, on an indexed model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization.base_quantizer import QuantizationParams
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

from onnxopt.quantization.ort import channels
from onnxopt.quantization.ort.channels import floats_of
from onnxopt.quantization.ort.index import IndexedModel


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
        made = channels.parameters(floats_of(tensor), axis, kind, ranges, reduce_range=self.reduce_range)
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
        bias = floats_of(bias_tp)
        if not is_per_channel or weight_scale.ndim != 1 or bias.shape != weight_scale.shape or bias.dtype != np.float32:
            return super()._adjust_weight_scale_for_int32_bias(
                input_scale, weight_scale, weight_name, bias_tp, is_per_channel
            )
        wider = channels.wide_enough(weight_scale, input_scale.item(), bias)
        return wider is not None, weight_scale if wider is None else wider

    def _add_qdq_nodes_for_initializer(self, weight_proto: onnx.TensorProto) -> Any:
        """Write the integers of a weight and the DequantizeLinear behind them."""
        name = weight_proto.name
        given = self.initializer_quant_params[name]
        axis, kind = given.get("axis"), given["quant_type"]
        one_by_one = axis is None or kind not in channels.BYTES or self.block_size or self.add_qdq_pair_to_weight
        if name in self.quantized_value_map or one_by_one:
            return super()._add_qdq_nodes_for_initializer(weight_proto)
        made, read = self._make_scale_zp_initializers(name, given), add_dequant_output_suffix(name)
        self.model.replace_input_of_all_nodes(name, read)
        numbers = channels.integers(floats_of(weight_proto), axis, kind, given["zero_point"], given["scale"])
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
        if kind not in channels.BYTES or scale.dtype != np.float32 or zero_point.ndim != scale.ndim:
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
