"""The arithmetic of the runtime's quantizers for all channels of a weight at once, with the same results.

The runtime goes through channels one by one in Python, at a tenth of a millisecond each: seconds for every attempt on a
common network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization.quant_utils import get_qmin_qmax_for_qType

BYTES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
"""Types of weights whose channels are computed at once."""

_ENDS = frozenset({"axis", "rmin", "rmax"})
_TINY = float(np.finfo(np.float32).tiny)
_INT32 = float(np.iinfo(np.int32).max) - float(np.iinfo(np.int32).min + 1)
_MARGIN = 1.0001
"""The runtime's own margin above the smallest scale of a bias."""


def floats_of(tensor: onnx.TensorProto) -> np.ndarray:
    """Return the numbers of a float tensor."""
    array: np.ndarray = numpy_helper.to_array(tensor)
    return array


def parameters(
    weight: np.ndarray, axis: int, kind: int, ranges: Sequence[Mapping[str, Any]], *, reduce_range: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return zero point and scale of each channel with symmetric ranges; None where they are left to the runtime.

    Args:
        weight: a float weight of any rank.
        axis: axis of the channels.
        kind: integer type, as in ONNX.
        ranges: `rmin` and `rmax` for each channel in place of the computed ones, or a single entry without them.
        reduce_range: whether the integers have 7 bits.
    """
    if weight.dtype != np.float32 or kind not in BYTES or not weight.size or not 0 <= axis < weight.ndim:
        return None
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest = np.maximum(np.abs(rows.min(1)), np.abs(rows.max(1)))
    if any(entry.keys() - _ENDS for entry in ranges):
        return None
    if any("rmin" in entry or "rmax" in entry for entry in ranges):
        if len(ranges) != len(rows) or any(entry.keys() != _ENDS for entry in ranges):
            return None
        ends = np.abs(np.array([(min(e["rmin"], 0), max(e["rmax"], 0)) for e in ranges], np.float32))
        largest = ends.max(1)
    if not np.isfinite(largest).all():
        return None
    lowest, highest = get_qmin_qmax_for_qType(kind, reduce_range, symmetric=True)
    scale = 2 * largest.astype(np.float64) / (float(highest) - float(lowest))
    nothing = scale < _TINY
    middle = np.round((float(lowest) + float(highest)) / 2)
    return (
        np.where(nothing, 0, middle).astype(lowest.dtype),
        np.where(nothing, np.float32(1), scale.astype(np.float32)),
    )


def integers(weight: np.ndarray, axis: int, kind: int, zero_point: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the integers of a float weight."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    numbers: np.ndarray = weight / scale.reshape(shape)
    numbers.round(out=numbers)
    numbers += zero_point.reshape(shape)
    lowest, highest = get_qmin_qmax_for_qType(kind)
    np.clip(numbers, lowest, highest, out=numbers)
    return numbers.astype(zero_point.dtype)


def wide_enough(scale: np.ndarray, input_scale: float, bias: np.ndarray) -> np.ndarray | None:
    """Return the scales of a weight, wider where a bias in 32 bits would overflow; None where they stay."""
    least = _MARGIN * (2.0 * np.abs(bias)) / np.float64(_INT32)
    products = np.float64(input_scale) * scale.astype(np.float64)
    short = (products < least) & (products > 0)
    if not short.any():
        return None
    ratio = np.divide(least, products, out=np.ones_like(products), where=short)
    return np.where(short, (scale.astype(np.float64) * ratio).astype(scale.dtype), scale)
