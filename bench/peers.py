"""The same model by other tools: onnxruntime's own quantizer, called as its documentation shows."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from onnxopt.samples import Samples

CALIBRATION_SAMPLES = 128


def ort_default(model: Path, calibration: Samples) -> bytes:
    """Quantize with every option at its default."""
    return _quantized(model, calibration)


def ort_u8s8(model: Path, calibration: Samples) -> bytes:
    """Quantize with unsigned activations and signed per-channel weights, QDQ, MinMax: the advice for x86."""
    return _quantized(
        model,
        calibration,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
    )


def ort_dynamic(model: Path, calibration: Samples) -> bytes:
    """Quantize dynamically, with signed per-channel weights."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.onnx"
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(str(model), str(out), weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(str(out)).SerializeToString()


def _quantized(model: Path, calibration: Samples, **options: object) -> bytes:
    reader = calibration.take(CALIBRATION_SAMPLES).with_batch_size(1).reader()
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.onnx"
            quantize_static(str(model), str(out), reader, **options)
            return onnx.load(str(out)).SerializeToString()
    finally:
        logging.disable(logging.NOTSET)


PEERS: Mapping[str, Callable[[Path, Samples], bytes]] = MappingProxyType(
    {"ort-default": ort_default, "ort-u8s8": ort_u8s8, "ort-dynamic": ort_dynamic}
)
