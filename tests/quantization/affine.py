"""The inverse of `quantize`, and the scale and zero point of a range."""

import numpy as np

from onnxopt.quantization.affine import LIMITS


def dequantize(q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return (q - zero_point) * scale as float32."""
    difference = q.astype(np.int32) - _along(zero_point, q.ndim, axis).astype(np.int32)
    return np.asarray(difference.astype(np.float32) * _along(scale, q.ndim, axis).astype(np.float32))


def parameters(low: float, high: float, dtype: str, *, symmetric: bool = False) -> tuple[np.float32, int]:
    """Return scale and zero point for values in [low, high], which zero is added to so that it is exact."""
    smallest, largest = LIMITS[dtype]
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    scale = np.float32((high - low) / (largest - smallest))
    if scale < np.finfo(np.float32).tiny:
        return np.float32(1), 0 if smallest < 0 else (smallest + largest + 1) // 2 if symmetric else smallest
    return scale, int(np.clip(np.rint(smallest - low / scale), smallest, largest))


def _along(array: np.ndarray, rank: int, axis: int | None) -> np.ndarray:
    array = np.asarray(array)
    if axis is None or array.ndim == 0:
        return array
    shape = [1] * rank
    shape[axis] = array.size
    return array.reshape(shape)
