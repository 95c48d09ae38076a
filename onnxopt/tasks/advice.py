"""Applicable passes for a model, from its layers and from trying passes without data."""

from collections import Counter

import onnx_ir as ir

from onnxopt.document.units import many
from onnxopt.errors import OnnxoptError
from onnxopt.graph.layers import Anatomy
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.record.steps import counted
from onnxopt.target import detect

MOST_PARAMETERS = 500_000_000
"""Number of parameters above which no pass is tried: it would take minutes."""
STATIC_ONLY = ("Conv", "ConvTranspose")
SMALL_MACS = 2_000_000
WIDE = 64


def advice(model: ir.Model, anatomy: Anatomy) -> tuple[str, ...]:
    """Return one sentence per applicable pass with its requirements, and reasons against the others."""
    lines = [_simplify(model, anatomy), _quantize(model, anatomy), *_prune(anatomy)]
    if anatomy.macs and anatomy.macs < SMALL_MACS:
        lines.append("The model is small: INT8 rarely speeds up runs of tens of microseconds. Measure it.")
    return tuple(line for line in lines if line)


def _simplify(model: ir.Model, anatomy: Anatomy) -> str:
    if anatomy.parameters > MOST_PARAMETERS:
        return ""
    try:
        steps = Pipeline((Simplify(),)).run(model, Context(detect())).steps
    except OnnxoptError as error:
        return f"simplify cannot be applied: {error.why or error.what}."
    done = counted((edit.action for step in steps for edit in step.edits), 6)
    return f"simplify (exact, no data): {done}." if done else "simplify finds nothing to do."


def _quantize(model: ir.Model, anatomy: Anatomy) -> str:
    if any(node.op_type in ("DequantizeLinear", "QLinearConv", "MatMulInteger") for node in model.graph.all_nodes()):
        return "Parts of the model are quantized already."
    weighted = Counter(layer.op_type for layer in anatomy.layers if layer.op_type in WEIGHTED)
    named = ", ".join(f"{times} {op}" for op, times in weighted.most_common())
    if not named:
        return "quantize: the model has no layer with weights."
    dynamic = sum(times for op, times in weighted.items() if op not in STATIC_ONLY)
    without = f"; {dynamic} of them also without samples (dynamic)" if dynamic else ""
    return f"quantize to INT8 for {detect().name}: {named}, with calibration samples{without}."


def _prune(anatomy: Anatomy) -> list[str]:
    widths = [layer.weight_shape[0] for layer in anatomy.layers if layer.op_type == "Conv" and layer.weight_shape]
    wide = sum(width >= WIDE for width in widths)
    if wide:
        return [
            f"prune-channels: {many(wide, 'layer')} of convolution with {WIDE} or more filters; see inspect --groups."
        ]
    if widths:
        return [f"prune-channels: little speed-up, because no convolution has {WIDE} filters."]
    return []
