"""The runtime's quantizers on an indexed model: their work grows with the size of the graph, not with its square.

They look each tensor up by going through all initializers. Here the model gives them only those that the node or the
tensor at hand is about. Methods that the runtime stops to call change nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from onnxopt.quantization.ort_index import IndexedModel


class NewNodes(list[onnx.NodeProto]):
    """Nodes written so far; going through them gives those of the node at hand, which alone are looked for."""

    begin = 0

    def __iter__(self) -> Iterator[onnx.NodeProto]:
        return (self[position] for position in range(self.begin, len(self)))


class OperatorQuantizer(ONNXQuantizer):  # type: ignore[misc]  # the runtime has no types
    """Writes integer operators: all dynamic ones, and the static QOperator form."""

    model: Any
    new_nodes: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.new_nodes = NewNodes()

    def calculate_quantization_params(self) -> Any:
        """Return scales and zero points; the last step of the base class that changes the model is before it."""
        self.model = IndexedModel(self.model.model)
        return super().calculate_quantization_params()

    def should_quantize_node(self, node: onnx.NodeProto) -> bool:
        """Return whether to quantize a node, which is the one at hand from now on."""
        self.model.seek((*node.input, *node.output))
        if isinstance(self.new_nodes, NewNodes):
            self.new_nodes.begin = len(self.new_nodes)
        return bool(super().should_quantize_node(node))

    def quantize_node_with_sub_graph(self, node: onnx.NodeProto) -> Any:
        """Quantize the subgraphs of a node, which may read every tensor of this graph."""
        with self.model.only(None):
            return super().quantize_node_with_sub_graph(node)

    def quantize_bias_static(self, bias_name: str, input_name: str, weight_name: str, beta: float = 1.0) -> Any:
        """Quantize the bias of the node at hand."""
        names = [bias_name, input_name, weight_name]
        for name in (input_name, weight_name):
            value = self.quantized_value_map.get(name)
            names += [f"{name}_scale"] if value is None else [value.scale_name, value.zp_name, value.q_name]
        with self.model.only(names):
            return super().quantize_bias_static(bias_name, input_name, weight_name, beta)

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

    def calc_graph_quant_params(self) -> Any:
        """Return scales and zero points."""
        self.model = IndexedModel(self.model.model)
        return super().calc_graph_quant_params()

    def should_quantize_node(self, node: onnx.NodeProto) -> bool:
        """Return whether to quantize a node, which is the one at hand from now on."""
        self.model.seek((*node.input, *node.output))
        return bool(super().should_quantize_node(node))

    def is_input_a_initializer(self, input_name: str) -> bool:
        """Return whether a tensor is constant."""
        with self.model.only([input_name]):
            return bool(super().is_input_a_initializer(input_name))

    def _calc_initializer_quant_params(self) -> dict[str, Any]:
        self.model.seek(None)  # the last node has been
        found, of_one = dict[str, Any](), super()._calc_initializer_quant_params
        self._each("tensors_to_quantize", lambda: found.update(of_one()))
        return found

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
        """Let a method of the base class that goes through the tensors of a field see one of them at a time."""
        whole: dict[str, Any] = getattr(self, field)
        rest = dict[str, Any]()
        for name, value in whole.items():
            one = {name: value}
            setattr(self, field, one)
            with self.model.only([name]):
                work()
            rest |= one
        setattr(self, field, rest)
