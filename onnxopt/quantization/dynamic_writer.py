"""Dynamic INT8 written weight by weight, for models that ONNX Runtime's quantizer does not take: it holds all of them.

Nodes and integers are those that `onnxruntime.quantization.quantize_dynamic` writes for products:

    MatMul(x, W)   ->   MatMulInteger(DynamicQuantizeLinear(x), W int8) - Cast - Mul(scale of x * scales of W)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_tensor, tensor_in
from onnxopt.model_file import opset_of
from onnxopt.model_file.streamed import Latest, streamed_tensors
from onnxopt.quantization.ort_bridge import DynamicOptions
from onnxopt.quantization.outcome import EXCLUDED, WEIGHTED, nodes_inside
from onnxopt.quantization.rounding.stored_weights import Storable, storable, store
from onnxopt.quantization.rounding.weight_ranges import safe_magnitudes
from onnxopt.quantization.weight_products import is_transposed

_ROWS_BYTES = 1 << 22
_TABLES_SINCE = 13
"""The first opset in which DequantizeLinear has a scale per column."""
_ONLY = "in a model above 1.5 GB MatMul, Gemm and tables are quantized: ONNX Runtime's quantizer takes no such model"


@dataclass
class Written:
    """Nodes that are INT8 now, with the action, and those that are not, with the reason; by name."""

    quantized: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def write_dynamic(model: ir.Model, options: DynamicOptions, hints: Mapping[str, str]) -> Written:
    """Quantize the products and tables of the main graph in place; weights are computed when they are written.

    Args:
        model: a model of opset 11 or newer; all nodes are named and constants are initializers.
        options: `subgraphs` is ignored.
        hints: reasons per operator why one stays in float.
    """
    done, writer = Written(), _Writer(model, options)
    for node in list(model.graph):
        name = node.name or ""
        reason = _obstacle(node, options, opset_of(model)) or hints.get(node.op_type, "")
        if node.op_type in ("MatMul", "Gemm") and not node.domain and not reason:
            writer.product(node)
            done.quantized[name] = f"{node.op_type} to INT8"
        elif node.op_type == "Gather" and not reason:
            done.quantized |= writer.table(node)
        elif node.op_type in (*WEIGHTED, *options.op_types) or any(n.op_type in WEIGHTED for n in nodes_inside(node)):
            done.left[name] = reason or _ONLY
    for value in [v for v in model.graph.initializers.values() if not v.uses() and not v.is_graph_output()]:
        model.graph.initializers.pop(value.name or "")
    return done


def _obstacle(node: ir.Node, options: DynamicOptions, opset: int) -> str:
    """Return the reason why a node that could be quantized stays in float; "" if it does not, and for others."""
    if node.name in options.exclude:
        return EXCLUDED
    if node.op_type == "Gather":
        return _table_obstacle(node, options.exclude, opset) if "Gather" in options.op_types else _ONLY
    if node.op_type not in ("MatMul", "Gemm"):
        return ""
    if node.op_type not in options.op_types:
        return "not among the op types chosen"
    x, weight = node.inputs[0], node.inputs[1]
    if weight is None or weight.const_value is None or weight.is_graph_input():
        return "its weights are not constant"
    if weight.const_value.dtype is not ir.DataType.FLOAT or len(weight.const_value.shape) != 2:
        return "its weight is not a float32 matrix"
    if x is None or x.const_value is not None:
        return "its input is constant"
    if node.op_type == "Gemm":
        scales = (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0))
        if scales != (1.0, 1.0) or node.attributes.get_int("transA"):
            return "it scales or transposes its inputs"
    return ""


def _table_obstacle(node: ir.Node, exclude: Collection[str], opset: int) -> str:
    table = node.inputs[0]
    if opset < _TABLES_SINCE:
        return f"opset {opset} has no table with a scale for each column"
    if table is None or table.const_value is None:
        return "it looks up no weight"
    if any(reader.name in exclude for reader, _ in table.uses()):
        return "another reader of its table is excluded"
    found = storable(table)
    if isinstance(found, str):
        return found
    return "" if found.table and found.bytes_saved() > 0 else "scales would take as much as is saved"


class _Writer:
    def __init__(self, model: ir.Model, options: DynamicOptions) -> None:
        self._graph, self._options, self._latest = model.graph, options, Latest()
        self._taken = {*self._graph.initializers, *(node.name for node in model.graph.all_nodes())}
        self._taken |= {value.name for node in model.graph.all_nodes() for value in node.outputs}
        self._inputs = dict[ir.Value, tuple[ir.Value, ...]]()
        self._weights = dict[tuple[ir.Value, bool], tuple[ir.Value, ...]]()

    def product(self, node: ir.Node) -> None:
        """Put a product of integers in the place of a MatMul or Gemm."""
        x, weight, name, old = node.inputs[0], node.inputs[1], node.name or "", node.outputs[0]
        assert x is not None
        assert weight is not None
        integers, x_scale, x_zero = self._quantized(x, node)
        matrix, scale, zero = self._stored(weight, is_transposed(node))
        product = self._node("MatMulInteger", [integers, matrix, x_zero, zero], f"{name}_quant")
        floats = self._node("Cast", [product.outputs[0]], f"{name}_cast", to=int(ir.DataType.FLOAT))
        scales = self._node("Mul", [x_scale, scale], f"{name}_scales")
        new = [product, floats, scales]
        new.append(self._node("Mul", [floats.outputs[0], scales.outputs[0]], f"{name}_scaled"))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            new.append(self._node("Add", [new[-1].outputs[0], bias], f"{name}_bias"))
        ir.convenience.replace_nodes_and_values(self._graph, node, [node], new, [old], [new[-1].outputs[0]])

    def table(self, node: ir.Node) -> dict[str, str]:
        """Store a table as int8, for all nodes that look rows up in it; return the action of each."""
        table = node.inputs[0]
        assert table is not None
        readers = [reader.name or "" for reader, _ in table.uses()]
        found = storable(table)
        if isinstance(found, Storable):  # else a reader before this one stored it
            store(self._graph, found, self._latest)
            return dict.fromkeys(readers, "Gather to INT8")
        return {}

    def _quantized(self, x: ir.Value, before: ir.Node) -> tuple[ir.Value, ...]:
        """Return integers, scale and zero point of an activation."""
        if x not in self._inputs:
            node = self._node("DynamicQuantizeLinear", [x], f"{x.name}_QuantizeLinear", outputs=3)
            self._graph.insert_before(before, node)
            self._inputs[x] = tuple(node.outputs)
        return self._inputs[x]

    def _stored(self, weight: ir.Value, transposed: bool) -> tuple[ir.Value, ...]:
        """Return integers, scales and zero points of a weight."""
        if (weight, transposed) not in self._weights:
            tensor = tensor_in(weight)
            features, outputs = tensor.shape.numpy()[:: -1 if transposed else 1]
            channels = (outputs,) if self._options.per_channel else ()
            kind = ir.DataType.INT8 if self._options.weight_type == "int8" else ir.DataType.UINT8
            forms = {
                "quantized": (kind, (features, outputs)),
                "scale": (ir.DataType.FLOAT, channels),
                "zero_point": (kind, channels),
            }

            def made(array: np.ndarray) -> dict[str, np.ndarray]:
                return _integers(array.T if transposed else array, self._options)

            values = []
            for word, made_later in streamed_tensors(tensor, made, forms, self._latest).items():
                value = ir.Value(name=self._free(f"{weight.name}_{word}"))
                set_tensor(value, made_later)
                self._graph.register_initializer(value)
                values.append(value)
            self._weights[weight, transposed] = tuple(values)
        return self._weights[weight, transposed]

    def _node(self, op: str, inputs: list[ir.Value], name: str, outputs: int = 1, **attributes: int) -> ir.Node:
        node = ir.node(op, inputs, attributes, num_outputs=outputs, name=self._free(name))
        for i, value in enumerate(node.outputs):
            value.name = self._free(f"{name}_output_{i}")
        return node

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _integers(matrix: np.ndarray, options: DynamicOptions) -> dict[str, np.ndarray]:
    """Return the form that the runtime's quantizer gives a weight of shape (features, outputs)."""
    axis = 0 if options.per_channel else None
    low, high = np.minimum(matrix.min(axis=axis), 0), np.maximum(matrix.max(axis=axis), 0)
    if options.weight_type == "int8":
        most = 64 if options.reduce_range else 127
        least = -most
        safe = options.avoid_saturation and bool(np.isfinite(matrix).all())
        high = safe_magnitudes(matrix, 1, options.per_channel) if safe else np.maximum(-low, high)
        low = -high
    else:
        least, most = 0, 127 if options.reduce_range else 255
    wide = np.asarray((high.astype(np.float64) - low) / (most - least))
    nothing = wide < np.finfo(np.float32).tiny
    scale = np.where(nothing, 1, wide).astype(np.float32)
    zero = np.where(nothing | (least < 0), 0, np.rint(least - low / np.where(nothing, 1, wide))).astype(np.float32)
    kind = np.dtype(options.weight_type)
    integers = np.empty(matrix.shape, kind)
    rows = max(_ROWS_BYTES // (4 * max(matrix.shape[1], 1)), 1)
    for start in range(0, len(matrix), rows):
        steps = matrix[start : start + rows] / scale
        np.rint(steps, out=steps)
        steps += zero
        integers[start : start + rows] = np.clip(steps, least, most, out=steps)
    return {"quantized": integers, "scale": scale, "zero_point": zero.astype(kind)}
