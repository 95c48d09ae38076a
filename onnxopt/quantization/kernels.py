"""Layers of a quantized model that run in INT8, read from the runtime's optimized graph."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.measure.latency.profile import NodeNames
from onnxopt.measure.runtime.session import Runtime, session_and_graph
from onnxopt.model_file import Operator, Operators, operators_of
from onnxopt.model_file.heap import without_collections
from onnxopt.quantization.outcome import EXCLUDED, HAS_INTEGER_KERNEL, WEIGHTED, Outcome, read_back, weighted_inside

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""Operators that belong to no layer."""
_INTEGER = (
    "QLinear",
    "QGemm",
    "QAttention",
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeL",
)
"""Prefixes of the runtime's integer kernels."""
_APPENDED = re.compile(r"(_token_\d+|_quant|_MatMul|_nchwc|_nhwc|_fused|/\w*Fusion\w*/?)+$")
"""Suffixes that quantizer and runtime append to layer names."""
_BYTES = (int(ir.DataType.INT8), int(ir.DataType.UINT8))
_GEMM_OUTPUT_ZERO = 8
"""Optional input of QGemm; without it the output is float."""


@dataclass(frozen=True)
class Execution:
    """The execution of a layer of the float model in the quantized one.

    Attributes:
        name: name of the layer in the float model.
        op_type: operator in the float model.
        kernel: the runtime's kernel, such as `QLinearConv`; empty if the runtime removes the layer.
        integer: whether the kernel computes on integers.
        reason: the reason why it does not; empty if it does.
    """

    name: str
    op_type: str
    kernel: str
    integer: bool
    reason: str


class LayerNames:
    """Maps the runtime's kernels to layers of the float model; see `NodeNames`.

    Args:
        model: the float model, with all nodes named.
        optimized: the runtime's graph of it, or of a model made from it, or the operators of that.
    """

    def __init__(self, model: ir.Model, optimized: ir.Model | Operators) -> None:
        self._own = {node.name for node in model.graph}
        self._names = NodeNames(model.graph, optimized if isinstance(optimized, Operators) else optimized.graph)

    def find(self, kernel: str, op_type: str) -> str | None:
        """Return the layer that a kernel computes, by its name and operator; None without one."""
        # A kernel's name is better evidence than its outputs.
        given = _APPENDED.sub("", kernel)
        return next((name for name in (kernel, given) if name in self._own), None) or self._names.find(kernel, op_type)


@without_collections()
def executions(
    model: ir.Model, quantized: ir.Model, reasons: Mapping[str, str], optimized: bytes = b""
) -> tuple[Execution, ...]:
    """Return the executions of layers of `model` in `quantized`: those with weights, and the quantized ones.

    Args:
        model: the float model, with node names as in `quantized`.
        quantized: the quantized model made from it.
        reasons: reasons of layers left in float on purpose, by name.
        optimized: the runtime's graph of `quantized`, as `opened` gives it; made here by default.

    Raises:
        ModelError: ONX304 the runtime cannot load `quantized`.
    """
    outcome = read_back(model, quantized, (), {})
    kernels = _kernels(model, optimized or _graph_of(quantized, Runtime()))
    nodes = {node.name or "": node for node in quantized.graph}
    found = []
    for node in model.graph:
        name = node.name or ""
        if (name not in outcome.quantized and name not in outcome.left) or weighted_inside(node):
            continue
        kernel, integer = _best(node, kernels.get(name, []))
        if not kernel and node.op_type not in WEIGHTED:
            continue
        reason = "" if integer else reasons.get(name) or outcome.left.get(name) or _unfused(node, nodes.get(name))
        found.append(Execution(name, node.op_type, kernel, integer, reason))
    return tuple(found)


def proved(outcome: Outcome, model: ir.Model, quantized: ir.Model, optimized: bytes = b"") -> Outcome:
    """Return `outcome` with the real kernels; layers that run in float despite Q/DQ count as left in float.

    Args:
        outcome: outcome of quantization, read from `quantized`.
        model: the float model, with all nodes named.
        quantized: the quantized model made from it.
        optimized: as in `executions`.
    """
    try:
        found = executions(model, quantized, outcome.left, optimized)
    except ModelError:
        return outcome  # a later measurement reports it
    quantized_now, left = dict(outcome.quantized), dict(outcome.left)
    for layer in found:
        if layer.name not in quantized_now:
            if layer.integer and left.get(layer.name) == EXCLUDED:
                left[layer.name] += f", but the runtime quantizes it by itself, as {layer.kernel}"
        elif not layer.integer:
            del quantized_now[layer.name]
            left[layer.name] = f"it runs in float: {layer.reason}"
        elif layer.kernel != layer.op_type:
            quantized_now[layer.name] += f" as {layer.kernel}"
    return Outcome(quantized_now, left)


def integer_layers(quantized: ir.Model, runtime: Runtime) -> frozenset[str]:
    """Return the nodes of `quantized` that the runtime computes on integers; all nodes must have names.

    Raises:
        ModelError: ONX304 the runtime cannot load it.
    """
    found = _kernels(quantized, _graph_of(quantized, runtime))
    return frozenset(name for name, kernels in found.items() if any(integer for _, integer in kernels))


def _graph_of(quantized: ir.Model, runtime: Runtime) -> bytes:
    return session_and_graph(quantized, runtime)[1]


def _kernels(model: ir.Model, optimized: bytes) -> dict[str, list[tuple[str, bool]]]:
    """Return the runtime's kernels and whether they compute on integers, by layer."""
    graph, found = operators_of(optimized), dict[str, list[tuple[str, bool]]]()
    names, bytes_ = LayerNames(model, graph), {name for name, kind in graph.kinds.items() if kind in _BYTES}
    for one in graph.main:
        first = next(filter(None, one.inputs), "")
        integer = one.op_type.startswith(_INTEGER) or (first in bytes_ and one.op_type not in CONVERSIONS)
        if _gives_bytes(one, integer):
            bytes_.update(filter(None, one.outputs))
        if one.op_type in CONVERSIONS:
            continue
        name = names.find(one.name, one.op_type)
        if name is not None:
            found.setdefault(name, []).append((one.op_type, integer))
    return found


def _gives_bytes(one: Operator, integer: bool) -> bool:
    if one.op_type == "QGemm":
        return len(one.inputs) > _GEMM_OUTPUT_ZERO and bool(one.inputs[_GEMM_OUTPUT_ZERO])
    moves = integer and not one.op_type.startswith(_INTEGER)
    return moves or one.op_type.startswith("QLinear") or one.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")


def _best(node: ir.Node, kernels: list[tuple[str, bool]]) -> tuple[str, bool]:
    """Return the kernel that computes a layer, among all kernels that write its value."""
    named = [kernel for kernel in kernels if node.op_type in kernel[0]]
    integer = [kernel for kernel in kernels if kernel[0].startswith(_INTEGER)]
    return next(iter((*named, *integer, *kernels)), ("", False))


def _unfused(layer: ir.Node, node: ir.Node | None) -> str:
    """Return the reason why the runtime computes a layer between Q/DQ in float."""
    if layer.op_type not in HAS_INTEGER_KERNEL:
        return "the runtime has no integer kernel for it"
    if node is None:
        return "the runtime computes it in float"
    uses = [use.node.op_type for use in node.outputs[0].uses()]
    if node.outputs[0].is_graph_output():
        return "its output is one of the model's, unquantized"
    if len(uses) != 1:
        return f"its output feeds {len(uses)} consumers"
    if uses[0] != "QuantizeLinear":
        return f"{uses[0]} reads its output unquantized"
    return "the runtime does not fuse the Q/DQ around it"
