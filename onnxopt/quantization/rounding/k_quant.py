"""Scales and zero points of blocks found by a search, as llama.cpp's k-quants find theirs.

Kawrakow, "k-quants", llama.cpp pull request 1684, 2023 (`make_qkx2_quants`), with the importance of inputs of pull
request 4861, 2024: for each of a few scales around that of rounding to nearest the integers are rounded, a line is
fitted through them by weighted least squares, and the best one stays. Here a zero point is an integer.
"""

import numpy as np

from onnxopt.quantization.rounding.blockwise import Blocks, grid_of, in_blocks, round_to_nearest

_TRIED = 21
"""Scales tried for each block."""


def k_quant(weight: np.ndarray, bits: int, block: int, *, importance: np.ndarray | None = None) -> Blocks:
    """Return `weight` with the grid of each block that has the smallest weighted squared error of those searched.

    A block keeps the grid of rounding to nearest where no other one has a smaller error.

    Args:
        weight: shape (outputs, features).
        bits: bits of an integer.
        block: features that share a scale.
        importance: mean square of each input on samples, shape (features,); None takes magnitudes of weights alone.
    """
    plain, values = round_to_nearest(weight, bits, block), in_blocks(weight, block)
    weights, most = importances(values, importance), 2**bits - 1
    integers, scale, zero = plain.integers, plain.scale[..., None], plain.zero_point[..., None]
    least = _error(values, integers.astype(np.float32), scale, zero.astype(np.float32), weights)
    first, _ = grid_of(values, bits)
    # The range of a block over more integers than there are, which clips some values, and over fewer.
    width = max(1.0, 2**bits / 8)
    for more in np.linspace(-width, width, _TRIED):
        tried = _fitted(values, first[..., None] * np.float32(most / (most + more)), weights, most)
        error = _error(values, *tried, weights)
        better = error < least
        least = np.where(better, error, least)
        integers = np.where(better, tried[0].astype(np.uint8), integers)
        scale = np.where(better, tried[1], scale)
        zero = np.where(better, tried[2].astype(np.uint8), zero)
    return Blocks(integers, scale[..., 0], zero[..., 0], bits, weight.shape[1])


def importances(values: np.ndarray, inputs: np.ndarray | None) -> np.ndarray:
    """Return the weight of each value's squared error, as llama.cpp has it: large values matter more than others.

    Args:
        values: shape (outputs, blocks, block).
        inputs: mean square of each input, shape (features,); None without samples.
    """
    squares = np.square(values)
    mean = squares.mean(axis=-1, keepdims=True)
    if inputs is None:
        return np.asarray(np.sqrt(mean) + np.abs(values))
    rows = in_blocks(inputs.astype(np.float32)[None], values.shape[-1])
    return np.asarray(rows * np.sqrt(2 * mean + squares))


def _fitted(
    values: np.ndarray, scale: np.ndarray, weights: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return integers, scales and zero points near `scale`, fitted twice: the line, then its scale alone."""
    zero = np.clip(np.rint(-np.minimum(values.min(axis=-1, keepdims=True), 0) / scale), 0, most)
    integers = np.clip(np.rint(values / scale) + zero, 0, most)
    scale, zero = _line(values, integers, weights, (scale, zero), most)
    integers = np.clip(np.rint(values / scale) + zero, 0, most)
    steps = integers - zero
    return integers, _positive(_sum(weights * steps * values), _sum(weights * steps * steps), scale), zero


def _line(
    values: np.ndarray, integers: np.ndarray, weights: np.ndarray, grid: tuple[np.ndarray, np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and integer zero point of the line through `integers` with the least weighted error."""
    total, weighted = _sum(weights), weights * integers
    q, x, qq, qx = _sum(weighted), _sum(weights * values), _sum(weighted * integers), _sum(weighted * values)
    scale = _positive(total * qx - q * x, total * qq - q * q, grid[0])
    zero = np.rint(_quotients(scale * q - x, scale * total, grid[1]))
    return scale, np.clip(zero, 0, most)


def _sum(array: np.ndarray) -> np.ndarray:
    return np.asarray(array.sum(axis=-1, keepdims=True))


def _positive(numbers: np.ndarray, by: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return quotients as scales; `other` where one would be no scale."""
    found = _quotients(numbers, by, other)
    return np.where(found > np.finfo(np.float32).tiny, found, other)


def _quotients(numbers: np.ndarray, by: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return quotients; `other` where one is not finite."""
    found = np.divide(numbers, by, out=np.full_like(numbers, np.nan), where=by > np.finfo(np.float32).tiny)
    return np.where(np.isfinite(found), found, other)


def _error(
    values: np.ndarray, integers: np.ndarray, scale: np.ndarray, zero: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    return _sum(weights * np.square(values - (integers - zero) * scale))
