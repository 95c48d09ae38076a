"""Protection of float layers between Q/DQ, which the runtime would quantize on its own.

ONNX Runtime quantizes the float weights of a Conv, ConvTranspose or Gemm that reads a DequantizeLinear and feeds a
QuantizeLinear, with one scale per tensor: a layer excluded for its loss would lose more than before. It does so only if
the DequantizeLinear has one scale and the bias is a vector.
"""

import numpy as np
import onnx
import onnx_ir as ir

from onnxopt.graph.edit import set_weight, tensor_in

_QUANTIZED_AGAIN = ("Conv", "ConvTranspose", "Gemm")


def has_float_layers(graph: onnx.GraphProto) -> bool:
    """Return whether `keep_float` may find layers in a graph, which need not be read for that."""
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    layers = (node for node in graph.node if node.op_type in _QUANTIZED_AGAIN and not node.domain)
    return any(len(node.input) > 1 and node.input[1] in weights for node in layers)


def keep_float(model: ir.Model) -> bool:
    """Rewrite float layers between Q/DQ so that the runtime keeps them in float, with equal outputs, in place.

    Returns:
        Whether there were any.
    """
    rewritten = False
    for node in list(model.graph):
        if node.op_type not in _QUANTIZED_AGAIN or node.domain:
            continue
        weight = _float_constant(node, 1)
        if weight is None or not _reads_one_scale(node):
            continue
        rewritten = True
        if node.op_type != "Gemm":
            groups = node.attributes.get_int("group", 1) or 1
            channels = weight.shape[1] * groups if node.op_type == "Conv" else weight.shape[0]
            _dequantize_by_channel(model.graph, node, channels)
        else:
            width = weight.shape[0 if node.attributes.get_int("transB", 0) else 1]
            _give_bias_of_two_axes(model.graph, node, width)
    return rewritten


def _float_constant(node: ir.Node, slot: int) -> np.ndarray | None:
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None or value.const_value is None or value.const_value.dtype is not ir.DataType.FLOAT:
        return None
    return value.const_value.numpy()


def _reads_one_scale(node: ir.Node) -> bool:
    producer = None if node.inputs[0] is None else node.inputs[0].producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    scale = _float_constant(producer, 1)
    return scale is not None and scale.size == 1


def _dequantize_by_channel(graph: ir.Graph, node: ir.Node, channels: int) -> None:
    """Give `node` a separate DequantizeLinear, with the same scale repeated per channel."""
    shared = node.inputs[0]
    assert shared is not None
    producer = shared.producer()
    assert producer is not None
    inputs = [producer.inputs[0]]
    for value in producer.inputs[1:]:
        assert value is not None
        own = ir.Value(name=f"{value.name}_for_{node.name}")
        set_weight(own, np.full(channels, tensor_in(value).numpy()))
        graph.register_initializer(own)
        inputs.append(own)
    dequantize = ir.node(
        "DequantizeLinear", inputs, {"axis": 1}, name=f"{producer.name}_for_{node.name}", version=producer.version
    )
    output = dequantize.outputs[0]
    output.name, output.shape, output.type = f"{shared.name}_for_{node.name}", shared.shape, shared.type
    graph.insert_before(node, dequantize)
    node.replace_input_with(0, output)
    if not shared.uses() and not shared.is_graph_output():
        graph.remove(producer, safe=True)


def _give_bias_of_two_axes(graph: ir.Graph, gemm: ir.Node, width: int) -> None:
    if len(gemm.inputs) > 2 and gemm.inputs[2] is not None:
        bias = _float_constant(gemm, 2)
        if bias is None or bias.ndim != 1:
            return
    else:
        bias = np.zeros(width, np.float32)
        gemm.resize_inputs(3)
    own = ir.Value(name=f"bias_of_{gemm.name}_in_float")
    set_weight(own, bias.reshape(1, -1))
    graph.register_initializer(own)
    gemm.replace_input_with(2, own)
