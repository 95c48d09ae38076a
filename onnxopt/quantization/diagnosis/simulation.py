"""Simulation of another processor's INT8 arithmetic as a graph for this machine.

x86 without VNNI saturates sums of two products at 16 bits (see `saturation`); all other processors compute them exactly
and differ only in speed. The result is valid if this machine itself is exact: with VNNI, or on ARM.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import lift_constants, name_nodes
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.shapes import with_types
from onnxopt.graph.windows import SAME, same_pads
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import fits_protobuf
from onnxopt.quantization.kernels import integer_layers
from onnxopt.quantization.outcome import nodes_inside
from onnxopt.quantization.rounding.pair_excess import Pairs, excess_of_rows, excess_of_windows, floats, pairs_of
from onnxopt.quantization.rounding.saturation import reduced
from onnxopt.reconstruction.unfold import Window
from onnxopt.target import Target

_EXACT = ("session.disable_quant_qdq", "1")
"""Session option that keeps Q/DQ unfused, so that this processor's integer kernels do not affect the result."""
_UNKNOWN = ("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "DynamicQuantizeLSTM", "QAttention")


@dataclass(frozen=True)
class Simulation:
    """A model that reproduces another processor's results.

    Attributes:
        model: the model, to run with `runtime`.
        runtime: configuration of ONNX Runtime.
        saturating: layers that can saturate there, with their number of weight pairs.
        left: layers that are not simulated, with the reason.
    """

    model: ir.Model
    runtime: Runtime
    saturating: Mapping[str, int]
    left: Mapping[str, str]


def simulate(model: ir.Model, target: Target, runtime: Runtime) -> Simulation:
    """Return `model` with the arithmetic of `target`.

    Raises:
        ModelError: ONX304 the runtime cannot load the model.
    """
    exact = replace(runtime, options=(*runtime.options, _EXACT))
    if not target.reduce_range or not fits_protobuf(model):
        left = {} if not target.reduce_range else {"graph": "weights above 1.5 GB are not simulated"}
        return Simulation(model, exact, {}, left)
    named = model.clone()
    lift_constants(named)
    name_nodes(named)
    copy = with_types(named)
    integer = integer_layers(copy, runtime)
    saturating, left, write = dict[str, int](), dict[str, str](), NodeWriter(copy, "saturation")
    for node in list(copy.graph):
        name = node.name or ""
        if node.op_type in _UNKNOWN:
            left[name] = f"how {node.op_type} saturates is not simulated"
        elif node.op_type in ("Conv", "Gemm", "MatMul") and name in integer:
            found = _between_conversions(write, node)
            if isinstance(found, str):
                left[name] = found
            elif found:
                saturating[name] = found
        elif any(inner.op_type in ("MatMulInteger", *_UNKNOWN) for inner in nodes_inside(node)):
            left[name] = "nodes in sub-graphs are not simulated"
        elif node.op_type == "MatMulInteger":
            found = _dynamic(write, node)
            if found:
                saturating[name] = found
    return Simulation(copy, exact, saturating, left)


def _between_conversions(write: NodeWriter, node: ir.Node) -> int | str:
    """Subtract saturation from a layer between Q/DQ; return the number of such pairs, or the reason for none."""
    x, w = (_dequantized(value) for value in node.inputs[:2])
    if x is None or w is None:
        return 0
    weight = None if w[0].const_value is None else w[0].const_value.numpy()
    if weight is None or weight.dtype != np.int8 or _depthwise(node, weight):
        return 0  # unsigned weights and depthwise convolutions are multiplied in 16 bits, one by one
    if x[0].dtype not in (ir.DataType.UINT8, ir.DataType.INT8):
        return 0
    write.anchor = node
    if node.op_type == "Conv":
        pairs = _pairs_of_convolution(node, weight)
        window = Window.of(node, weight.shape[2:], transposed=False)
        assert window is not None
        pads = _pads(window, node)
        if pads is None:
            return "its padding depends on the size of its input"
        if not len(pairs):
            return 0
        distance, zero = _distance(write, x)
        excess = excess_of_windows(write, distance, zero, pairs, window=window, pads=pads)
        scale_shape = (-1, *(1,) * len(window.kernel))
    else:
        transposed = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
        if weight.ndim != 2 or (node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0))):
            return "it multiplies stacks of matrices or transposes its input"
        rows = weight if transposed else weight.T
        pairs = pairs_of(rows, np.broadcast_to(np.arange(rows.shape[1]), rows.shape))
        if not len(pairs):
            return 0
        distance, zero = _distance(write, x)
        excess = excess_of_rows(write, write("Add", distance, zero), pairs)
        scale_shape = (-1,)
    step = write("Mul", _as_row(write, w[1], scale_shape), x[1])
    _subtract(node, write("Mul", excess, step))
    return len(pairs)


def _dynamic(write: NodeWriter, node: ir.Node) -> int:
    """Subtract the saturated part from a MatMulInteger; return the number of saturating pairs."""
    value = node.inputs[1]
    weight = None if value is None or value.const_value is None else value.const_value.numpy()
    if weight is None or weight.dtype != np.int8 or weight.ndim != 2 or node.inputs[0] is None:
        return 0
    pairs = pairs_of(weight.T, np.broadcast_to(np.arange(weight.shape[0]), weight.T.shape))
    if len(pairs):
        write.anchor = node
        excess = excess_of_rows(write, floats(write, node.inputs[0]), pairs)
        whole = write("Cast", excess, kind=ir.DataType.INT32, to=int(ir.DataType.INT32))
        _subtract(node, whole)
    return len(pairs)


def _pairs_of_convolution(node: ir.Node, weight: np.ndarray) -> Pairs:
    groups = node.attributes.get_int("group", 1) or 1
    outputs, channels = weight.shape[:2]
    group = np.arange(outputs)[:, None] // (outputs // groups)
    position, channel = np.divmod(np.arange(weight[0].size), channels)
    places = position * channels * groups + group * channels + channel
    return pairs_of(reduced(weight), places)


def _depthwise(node: ir.Node, weight: np.ndarray) -> bool:
    return node.op_type == "Conv" and weight.shape[1] == 1 and (node.attributes.get_int("group", 1) or 1) > 1


def _pads(window: Window, node: ir.Node) -> tuple[int, ...] | None:
    """Return begins and ends of the padding; None if they depend on the input."""
    if window.auto_pad not in SAME:
        return window.pads
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    declared = [] if shape is None else list(shape)[2:]
    sizes = []
    for axis, (k, stride, dilation) in enumerate(zip(window.kernel, window.strides, window.dilations, strict=True)):
        size = declared[axis] if axis < len(declared) else None
        if not isinstance(size, int) and stride != 1:
            return None
        # At stride 1 the padding does not depend on the size.
        sizes.append(size if isinstance(size, int) else k * dilation)
    return same_pads(window.auto_pad, sizes, window.kernel, window.strides, window.dilations)


def _dequantized(value: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Value | None] | None:
    """Return the inputs of a DequantizeLinear: integers, scale and zero point."""
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return None
    integers, scale = producer.inputs[:2]
    assert integers is not None
    assert scale is not None
    return integers, scale, producer.inputs[2] if len(producer.inputs) > 2 else None


def _distance(write: NodeWriter, x: tuple[ir.Value, ir.Value, ir.Value | None]) -> tuple[ir.Value, ir.Value]:
    """Return activations minus their zero point, and the zero point as an unsigned byte; signed ones are shifted."""
    integers, _, zero = x
    shift = 128.0 if integers.dtype is ir.DataType.INT8 else 0.0
    point = write.constant(0, np.float32) if zero is None else floats(write, zero)
    distance = write("Sub", floats(write, integers), point)
    return distance, write("Add", point, write.constant(shift, np.float32))


def _as_row(write: NodeWriter, scale: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    return write("Reshape", scale, write.constant(shape))


def _subtract(node: ir.Node, amount: ir.Value) -> None:
    """Subtract `amount` from the output of `node` for all its readers."""
    assert node.graph is not None
    output = node.outputs[0]
    name = output.name
    output.name = f"{name}_unsaturated"
    less = ir.node("Sub", [output, amount], name=f"{node.name}_saturated")
    result = less.outputs[0]
    result.name, result.type, result.shape = name, output.type, output.shape
    for use in [u for u in output.uses() if u.node is not less]:
        use.node.replace_input_with(use.idx, result)
    outputs = node.graph.outputs
    for place, value in enumerate(outputs):
        if value is output:
            outputs[place] = result
    node.graph.insert_after(node, less)
