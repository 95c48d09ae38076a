"""Layers in INT8 and in float, read from the quantized graph."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
"""Operators whose time and size are mostly weights, which reports list."""

EXCLUDED = "excluded"
"""Reason of a layer that the user kept in float."""

HAS_INTEGER_KERNEL = frozenset(
    [
        "Add",
        "ArgMax",
        "AveragePool",
        "Clip",
        "Concat",
        "Conv",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Gemm",
        "GlobalAveragePool",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "Pad",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "Softmax",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
"""Operators that ONNX Runtime's CPU provider fuses with surrounding Q/DQ; others run in float between them."""


@dataclass(frozen=True)
class Outcome:
    """Names of INT8 layers with the change, and of weighted float layers with the reason."""

    quantized: Mapping[str, str]
    left: Mapping[str, str]


def read_back(before: ir.Model, after: ir.Model, exclude: Collection[str], hints: Mapping[str, str]) -> Outcome:
    """Compare a model before and after quantization.

    Args:
        before: the float model, with all nodes named.
        after: the result of the runtime's quantizer.
        exclude: names of nodes that had to stay in float.
        hints: possible reasons for float, per op type.
    """
    quantized, left = dict[str, str](), dict[str, str]()
    now = {node.name or "": node for node in after.graph}
    for node in before.graph:
        name = node.name or ""
        done = _is_quantized(name, now) or _is_stored_table(node, now.get(name))
        if name not in exclude and not reads_quantized(node) and done:
            quantized[name] = f"{node.op_type} to INT8"
        elif node.op_type in WEIGHTED:
            left[name] = EXCLUDED if name in exclude else hints.get(node.op_type) or _reason(node)
        elif inner := weighted_inside(node):
            rest = weighted_inside(now[name]) if name in now else inner
            if changed := inner - rest:
                quantized[name] = f"{_counted(changed)} in its sub-graphs to INT8"
            if rest:
                left[name] = f"nodes in its sub-graphs stay in float: {_counted(rest)}"
    return Outcome(quantized, left)


def weighted_inside(node: ir.Node) -> Counter[str]:
    """Return the number of weighted layers in the sub-graphs of a control-flow node, by operator."""
    return Counter(one.op_type for one in nodes_inside(node) if one.op_type in WEIGHTED)


def nodes_inside(node: ir.Node) -> Iterator[ir.Node]:
    """Return the nodes of the sub-graphs of a control-flow node, nested ones included."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from ir.traversal.RecursiveGraphIterator(graph)


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{times} {op_type}" for op_type, times in found.most_common())


def reads_quantized(node: ir.Node) -> bool:
    """Return whether an input of `node` comes from a DequantizeLinear."""
    return any(map(_is_dequantized, node.inputs))


def _is_dequantized(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_quantized(name: str, now: Mapping[str, ir.Node]) -> bool:
    if name not in now:
        # The operator forms get a suffix; a Gemm becomes a MatMul first.
        return any(f"{name}{suffix}" in now for suffix in ("_quant", "_MatMul_quant"))
    node = now[name]
    # A float layer after a quantized one reads dequantized activations, but not dequantized weights.
    if node.op_type in WEIGHTED:
        return all(map(_is_dequantized, node.inputs[:2]))
    if node.op_type not in HAS_INTEGER_KERNEL:
        return False
    requantized = any(use.node.op_type == "QuantizeLinear" for v in node.outputs for use in v.uses())
    return requantized and _is_dequantized(next(iter(node.inputs), None))


def _is_stored_table(before: ir.Node, after: ir.Node | None) -> bool:
    """Return whether the float table of a Gather is integers now."""
    if after is None or before.op_type != "Gather" or before.domain:
        return False
    tables = [node.inputs[0].const_value if node.inputs[0] is not None else None for node in (before, after)]
    if tables[0] is None or tables[1] is None:
        return False
    return tables[0].dtype is ir.DataType.FLOAT and tables[1].dtype in (ir.DataType.INT8, ir.DataType.UINT8)


def _reason(node: ir.Node) -> str:
    if reads_quantized(node):
        return "it is quantized already"
    weights = [v for v in node.inputs if v is not None and v.const_value is not None]
    other = sorted({v.dtype.name.lower() for v in weights if v.dtype not in (None, ir.DataType.FLOAT)})
    if other:
        return f"its weights are {', '.join(other)}, not float32"
    return "the runtime's quantizer leaves it in float" if weights else "its weights are not constant"
