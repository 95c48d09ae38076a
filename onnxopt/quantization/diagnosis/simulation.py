"""Simulation of another processor's INT8 arithmetic as a graph for this machine.

x86 without VNNI saturates sums of two products at 16 bits (see `saturation`); all other processors compute them exactly
and differ only in speed. The result is valid if this machine itself is exact: with VNNI, or on ARM.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.graph.edit import lift_constants, name_nodes
from onnxopt.graph.lint import is_quantized
from onnxopt.graph.node_writer import NodeWriter
from onnxopt.graph.shapes import with_types
from onnxopt.graph.windows import SAME, same_pads
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import fits_protobuf
from onnxopt.quantization.kernels import integer_layers
from onnxopt.quantization.outcome import nodes_inside
from onnxopt.quantization.rounding.pair_excess import Pairs, excess_of_rows, excess_of_windows, floats, pairs_of
from onnxopt.quantization.rounding.saturation import CONVOLUTIONS, multiplies_singly, reduced
from onnxopt.reconstruction.unfold import Window
from onnxopt.target import Target, detect

_EXACT = ("session.disable_quant_qdq", "1")
"""Session option that keeps Q/DQ unfused, so that this processor's integer kernels do not affect the result."""
_OPERATORS = ("QLinearConv", "QLinearMatMul", "QGemm")
_UNKNOWN = (*_OPERATORS, "ConvInteger", "DynamicQuantizeLSTM", "QAttention")
_DYNAMIC = {"MatMulInteger": (1,), "QAttention": (1,), "DynamicQuantizeLSTM": (1, 2)}
"""The weights among the inputs of operators that quantize activations at run time: (..., inputs, outputs)."""
_WEIGHT = 3
"""The place of the weight among the inputs of these operators."""


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
    copy = _prepared(model)
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


def saturating_layers(model: ir.Model, runtime: Runtime) -> dict[str, int]:
    """Return the integer layers of `model` that can saturate on x86 without VNNI, with their number of weight pairs.

    Raises:
        ModelError: ONX304 the runtime cannot load the model.
    """
    copy, found = _prepared(model), dict[str, int]()
    integer = integer_layers(copy, runtime)
    for node in copy.graph.all_nodes():
        if node.op_type in _DYNAMIC:
            count = sum(len(pairs_of(rows, _in_order(rows))) for rows in _dynamic_rows(node))
        else:
            weight = _weight_of(node) if node.name in integer or node.op_type in _OPERATORS else None
            pairs = None if weight is None else _pairs_of(node, weight)
            count = 0 if pairs is None else len(pairs)
        if count:
            found[node.name or ""] = count
    return found


def saturating_here(model: ir.Model, runtime: Runtime) -> tuple[str, ...]:
    """Return the integer layers of a model that can saturate on this machine; none where they are not known."""
    here = detect()
    safe = here.activation_type != "uint8" or not here.reduce_range
    if safe or not fits_protobuf(model) or not any(map(is_quantized, model.graph.all_nodes())):
        return ()
    with suppress(ModelError):  # the runtime does not load it, which others report
        return tuple(saturating_layers(model, runtime))
    return ()


def _dynamic_rows(node: ir.Node) -> Iterator[np.ndarray]:
    """Yield the signed weights of a layer with dynamic activations as matrices (outputs, inputs)."""
    for place in _DYNAMIC[node.op_type]:
        value = node.inputs[place] if place < len(node.inputs) else None
        weight = None if value is None or value.const_value is None else value.const_value.numpy()
        if weight is not None and weight.dtype == np.int8 and weight.ndim > 1:
            yield from np.swapaxes(weight, -1, -2).reshape(-1, weight.shape[-1], weight.shape[-2])


def _prepared(model: ir.Model) -> ir.Model:
    named = model.clone()
    lift_constants(named)
    name_nodes(named)
    return with_types(named)


def _between_conversions(write: NodeWriter, node: ir.Node) -> int | str:
    """Subtract saturation from a layer between Q/DQ; return the number of such pairs, or the reason for none."""
    weight = _weight_of(node)
    if weight is None:
        return 0
    x, w = (_dequantized(value) for value in node.inputs[:2])
    assert x is not None
    assert w is not None
    pairs = _pairs_of(node, weight)
    if pairs is None:
        return "it multiplies stacks of matrices or transposes its input"
    window = Window.of(node, weight.shape[2:], transposed=False) if node.op_type == "Conv" else None
    assert (window is not None) == (node.op_type == "Conv")
    pads = None if window is None else _pads(window, node)
    if window is not None and pads is None:
        return "its padding depends on the size of its input"
    if not len(pairs):
        return 0
    write.anchor = node
    distance, zero = _distance(write, x)
    if window is None or pads is None:
        excess = excess_of_rows(write, write("Add", distance, zero), pairs)
    else:
        excess = excess_of_windows(write, distance, zero, pairs, window=window, pads=pads)
    scale_shape = (-1, *(1 for _ in weight.shape[2:]))
    step = write("Mul", _as_row(write, w[1], scale_shape), x[1])
    _subtract(node, write("Mul", excess, step))
    return len(pairs)


def _dynamic(write: NodeWriter, node: ir.Node) -> int:
    """Subtract the saturated part from a MatMulInteger; return the number of saturating pairs."""
    weight = _weight_of(node)
    pairs = None if weight is None else _pairs_of(node, weight)
    if pairs is None or node.inputs[0] is None:
        return 0
    if len(pairs):
        write.anchor = node
        excess = excess_of_rows(write, floats(write, node.inputs[0]), pairs)
        whole = write("Cast", excess, kind=ir.DataType.INT32, to=int(ir.DataType.INT32))
        _subtract(node, whole)
    return len(pairs)


def _weight_of(node: ir.Node) -> np.ndarray | None:
    """Return the signed weight of a layer that adds products in pairs; None for others.

    Unsigned weights, and those of depthwise convolutions, are multiplied in 16 bits, one by one.
    """
    stored = node.inputs[_WEIGHT] if node.op_type in _OPERATORS else node.inputs[1] if len(node.inputs) > 1 else None
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        x, w = (_dequantized(value) for value in node.inputs[:2])
        if x is None or w is None or x[0].dtype not in (ir.DataType.UINT8, ir.DataType.INT8):
            return None
        stored = w[0]
    weight = None if stored is None or stored.const_value is None else stored.const_value.numpy()
    alone = weight is None or weight.dtype != np.int8 or weight.ndim < 2 or multiplies_singly(node, weight.shape)
    return None if alone else weight


def _pairs_of(node: ir.Node, weight: np.ndarray) -> Pairs | None:
    """Return the pairs of a layer that can saturate; None for stacks of matrices and transposed inputs."""
    if node.op_type in CONVOLUTIONS:
        return _pairs_of_convolution(node, weight)
    turned, transposed = (node.attributes.get_int(name, 0) != 0 for name in ("transA", "transB"))
    if weight.ndim != 2 or turned:
        return None
    rows = weight if transposed else weight.T
    return pairs_of(rows, _in_order(rows))


def _in_order(rows: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(rows.shape[1]), rows.shape)


def _pairs_of_convolution(node: ir.Node, weight: np.ndarray) -> Pairs:
    groups = node.attributes.get_int("group", 1)
    outputs, channels = weight.shape[:2]
    group = np.arange(outputs)[:, None] // (outputs // groups)
    position, channel = np.divmod(np.arange(weight[0].size), channels)
    places = position * channels * groups + group * channels + channel
    return pairs_of(reduced(weight), places)


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
