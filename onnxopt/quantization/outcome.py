"""Which layers of a model became INT8, read back from the quantized graph instead of assumed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
"""Operators whose time and size are mostly weights: the ones a user asks about."""


@dataclass(frozen=True)
class Outcome:
    """Names of layers that are INT8 now with what was done, and of weighted layers that are not, with the reason."""

    quantized: Mapping[str, str]
    left: Mapping[str, str]


def read_back(before: ir.Model, after: ir.Model, exclude: Collection[str], hints: Mapping[str, str]) -> Outcome:
    """Compare a model before and after quantization.

    Args:
        before: the float model, every node named.
        after: what the runtime's quantizer made of it.
        exclude: names of nodes that were to stay in float.
        hints: reasons per op type why one may stay in float.
    """
    quantized, left = dict[str, str](), dict[str, str]()
    now = {node.name or "": node for node in after.graph}
    for node in before.graph:
        name = node.name or ""
        if _is_quantized(name, now):
            quantized[name] = f"{node.op_type} to INT8"
        elif node.op_type in WEIGHTED:
            left[name] = "excluded" if name in exclude else hints.get(node.op_type, "its weights are not constant")
    return Outcome(quantized, left)


def _is_quantized(name: str, now: Mapping[str, ir.Node]) -> bool:
    if name not in now:
        # The operator forms get a suffix; a Gemm becomes a MatMul first.
        return any(f"{name}{suffix}" in now for suffix in ("_quant", "_MatMul_quant"))
    producers = (v.producer() for v in now[name].inputs if v is not None)
    return any(p is not None and p.op_type == "DequantizeLinear" for p in producers)
