"""Affine quantization in numpy, bit-identical to QuantizeLinear and DequantizeLinear."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

LIMITS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "int4": (-8, 7),
        "uint4": (0, 15),
        "int8": (-128, 127),
        "uint8": (0, 255),
        "int16": (-32768, 32767),
        "uint16": (0, 65535),
    }
)
"""Smallest and largest value of every integer type."""


def quantize(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, dtype: str, axis: int | None = None
) -> np.ndarray:
    """Return saturated round(x / scale) + zero_point as int32; ties go to the even integer.

    Args:
        x: values in float32.
        scale: a number, or an array of shape (channels,) along `axis`.
        zero_point: zero points, in the shape of `scale`.
        dtype: integer type, a key of `LIMITS`.
        axis: axis of the channels; None for a single scale.
    """
    low, high = LIMITS[dtype]
    steps, zeros = _along(scale, x.ndim, axis).astype(np.float32), _along(zero_point, x.ndim, axis).astype(np.float32)
    # In float32, and clipped before the zero point is added, as in the runtime, so that sums are exact.
    with np.errstate(over="ignore"):
        rounded = np.rint(x.astype(np.float32) / steps)
    return np.asarray((np.clip(rounded, low - zeros, high - zeros) + zeros).astype(np.int32))


def _along(array: np.ndarray, rank: int, axis: int | None) -> np.ndarray:
    array = np.asarray(array)
    if axis is None or array.ndim == 0:
        return array
    shape = [1] * rank
    shape[axis] = array.size
    return array.reshape(shape)
