"""GPTQ rounding: the error of each column is corrected in later columns.

Frantar, Ashkboos, Hoefler & Alistarh, "GPTQ: accurate post-training quantization for generative pre-trained
transformers", ICLR 2023: optimal brain surgeon with a fixed order of columns, by the Cholesky factor of the inverse
Hessian, which is the sum over the layer's inputs x of x x^T.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.quantization.rounding.blockwise import Blocks, grid_of

_DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to it, as in the paper."""
_TOGETHER = 128
"""Columns per block: after a block, one product adds its errors to all later columns."""


@dataclass(frozen=True)
class Grid:
    """The grid of one column's weights: (integer - zero) * scale with integers from `low` to `high`.

    Each attribute is a number, or an array of shape (outputs,).
    """

    scale: np.ndarray
    zero: np.ndarray | float
    low: np.ndarray | float
    high: np.ndarray | float


def gptq(weight: np.ndarray, hessian: np.ndarray, bits: int, block: int) -> Blocks:
    """Return `weight` in blocks; the scale of a block comes from its weights after the corrections of earlier columns.

    Args:
        weight: shape (outputs, features).
        hessian: sum or mean over the inputs x of x x^T, shape (features, features).
        bits: bits of an integer.
        block: features that share a scale.
    """
    outputs, features = weight.shape
    count = -(-features // block)
    scale, zero = np.ones((outputs, count), np.float32), np.zeros((outputs, count), np.uint8)

    def grid(column: int, rest: np.ndarray) -> Grid:
        number = column // block
        if column % block == 0:
            here = rest[:, column : column + block].astype(np.float32)
            scale[:, number], zero[:, number] = grid_of(here, bits)
        return Grid(scale[:, number].astype(np.float64), zero[:, number].astype(np.float64), 0, 2**bits - 1)

    found = _rounded(weight, hessian, grid, max(block, _TOGETHER // block * block))
    integers = np.repeat(zero, block, axis=1)  # the padding of the last block is zero
    integers[:, :features] = found
    return Blocks(integers.reshape(outputs, count, block), scale, zero, bits, features)


def gptq_on_grid(weight: np.ndarray, hessian: np.ndarray, scale: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return integers, as int64, for known scales.

    Args:
        weight: shape (outputs, features).
        hessian: shape (features, features).
        scale: shape (outputs,).
        largest: largest magnitude of an integer, shape (outputs,).
    """
    grid = Grid(scale.astype(np.float64), 0, -largest, largest)
    return _rounded(weight, hessian, lambda column, rest: grid, _TOGETHER).astype(np.int64)


def error_of(difference: np.ndarray, hessian: np.ndarray) -> float:
    """Return the squared error of the outputs, summed, for weights that differ by `difference` (outputs, features)."""
    return float(np.einsum("od,od->", difference @ hessian, difference))


def _rounded(
    weight: np.ndarray, hessian: np.ndarray, grid: Callable[[int, np.ndarray], Grid], together: int
) -> np.ndarray:
    """Return the integers as floats; `grid` is called for each column with the weights still to round."""
    outputs, features = weight.shape
    rest = weight.astype(np.float64)
    factor = _inverse_factor(hessian)
    integers = np.zeros((outputs, features))
    for start in range(0, features, together):
        raise_if_interrupted()
        end = min(start + together, features)
        lost = np.zeros((outputs, end - start))
        for column in range(start, end):
            g = grid(column, rest)
            integer = np.clip(np.rint(rest[:, column] / g.scale) + g.zero, g.low, g.high)
            integers[:, column] = integer
            error = (rest[:, column] - (integer - g.zero) * g.scale) / factor[column, column]
            rest[:, column + 1 : end] -= np.outer(error, factor[column, column + 1 : end])
            lost[:, column - start] = error
        rest[:, end:] -= lost @ factor[start:end, end:]
    return integers


def _inverse_factor(hessian: np.ndarray) -> np.ndarray:
    """Return the upper Cholesky factor of the inverse of the damped Hessian.

    Inputs that are always zero have no influence; their weights are rounded to nearest.
    """
    damped = hessian.astype(np.float64)
    diagonal = np.diagonal(damped).copy()
    mean = float(diagonal.mean()) or 1.0
    damped[np.diag_indices_from(damped)] += np.where(diagonal > 0, _DAMPING * mean, mean)
    lower = scipy.linalg.cholesky(damped, lower=True, overwrite_a=True)
    inverse = scipy.linalg.cho_solve((lower, True), np.eye(len(damped)), overwrite_b=True)
    factor: np.ndarray = scipy.linalg.cholesky(inverse, lower=False, overwrite_a=True)
    return factor
