"""The record of `bench/repair.py` as Markdown: the table of docs/repair.md."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

SHOWN: Mapping[str, str] = MappingProxyType(
    {
        "detector--onnxruntime-qdq": "detector like YOLOv8, ONNX Runtime's defaults (QDQ, int8)",
        "detector--onnxruntime-qoperator": "the same, QOperator",
        "detector--onnxruntime-qdq-u8u8": "the same, uint8 weights",
        "detector--onnxruntime-dynamic": "the same, dynamic",
        "detector--nncf-ptq": "the same, NNCF",
        "detector--onnxsim-static-full": "the same, onnxsim, all activations",
        "detector--olive-static": "the same, Olive",
        "digits_resnet--onnxruntime-qdq": "ResNet for digits, ONNX Runtime's defaults",
        "digits_resnet--nncf-ptq": "the same, NNCF",
        "classifier--onnxruntime-qdq": "like MobileNetV2, ONNX Runtime's defaults",
        "encoder--onnxruntime-qdq": "transformer blocks, ONNX Runtime's defaults",
        "encoder--onnxruntime-8bit": "the same, MatMulNBits of 8 bits",
        "encoder--nncf-weights": "the same, weights by NNCF",
        "mlp--nncf-weights": "MLP, weights by NNCF",
        "mlp--onnxruntime-qoperator": "MLP, ONNX Runtime, QOperator, int8",
        "mlp--onnxruntime-qdq": "MLP, ONNX Runtime's defaults",
        "torch--torch-fake-quant": "convolutions, simulated quantization of torch",
        "tf2onnx--tflite-int8": "TFLite int8, by tf2onnx",
        "pytorch--slim-320": "face detector slim-320, weights listed as inputs",
        "caffe2--squeezenet": "SqueezeNet of Caffe2, weights listed as inputs",
        "deployed--rapidocr-det": "PP-OCR's text detector, float",
        "deployed--rapidocr-rec": "PP-OCR's recognizer, float",
    }
)
"""Rows of the table in their order, as a reader knows them."""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows that the guide shows: repairs, speed-up, speed beside float before and after, changes."""
    heads = ("file", "repairs", "speed-up", "of FP32, before", "after", "outputs", "as run")
    lines = ["| " + " | ".join(heads) + " |", "|---|---|--:|--:|--:|---|--:|"]
    known = {row["file"]: row for row in rows}
    for name, title in SHOWN.items():
        if name in known:
            row = known[name]
            cells = [title, ", ".join(row["kept"]) or "-", _speed(row), *_of_float(row), _outputs(row)]
            lines.append("| " + " | ".join([*cells, f"{100 * row['change_as_run']:.1f} %"]) + " |")
    return "\n".join(lines)


def _speed(row: Mapping[str, Any]) -> str:
    if row["speed_up"] is None:
        return "unsure"
    low, high = row["interval"]
    return f"{row['speed_up']:.2f}x ({low:.2f}..{high:.2f})"


def _of_float(row: Mapping[str, Any]) -> list[str]:
    found = row.get("over_float")
    if not found:
        return ["-", "-"]
    return [f"{found[name][1]:.2f}x" if found[name] else "unsure" for name in ("before", "after")]


def _outputs(row: Mapping[str, Any]) -> str:
    if not row["exact"]:
        return f"{100 * row['change']:.1f} %"
    return f"equal up to {row['change']:.0e}" if row["change"] else "equal"
