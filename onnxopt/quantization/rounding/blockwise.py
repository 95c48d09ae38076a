"""Weights quantized block by block along the inputs of each output, and packed for MatMulNBits."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

_AT_ONCE = 1 << 19
"""Numbers of a weight that are rounded at a time: they and the results stay in the cache."""
_POWER, _BETA, _GROWTH = 0.7, 10.0, 1.01
"""Half-quadratic quantization: the norm of the error, and the coupling of both parts, as in the article."""


@dataclass(frozen=True)
class Blocks:
    """A weight in blocks; value = (integer - zero_point) * scale.

    Attributes:
        integers: uint8, shape (outputs, blocks, block); the last block is padded with zero points.
        scale: float32, shape (outputs, blocks).
        zero_point: uint8, shape (outputs, blocks).
        bits: bits of an integer, 2, 4 or 8.
        features: number of inputs, without the padding of the last block.
    """

    integers: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    bits: int
    features: int

    def packed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return packed weights (outputs, blocks, bytes), scales and zero points; lower bits of a byte come first."""
        missing = -self.zero_point.shape[1] % (8 // self.bits)
        zeros = np.pad(self.zero_point, ((0, 0), (0, missing)))
        return _in_bytes(self.integers, self.bits), self.scale, _in_bytes(zeros, self.bits)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the inputs of MatMulNBits: it reads scales and zero points as one row after the other."""
        weights, scales, zeros = self.packed()
        arrays = {"q": weights, "scale": scales.reshape(-1), "zero": np.asarray(zeros, np.uint8).reshape(-1)}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def rows(self) -> dict[str, np.ndarray]:
        """Return the inputs of GatherBlockQuantized, each with a row for each output."""
        count = len(self.integers)
        return {name: array.reshape(count, -1) for name, array in self.arrays().items()}

    def floats(self) -> np.ndarray:
        """Return the values, shape (outputs, features)."""
        steps = self.integers.astype(np.float32) - self.zero_point[..., None].astype(np.float32)
        values = (steps * self.scale[..., None]).reshape(len(steps), -1)
        return np.asarray(values[:, : self.features])


Rounding = Callable[[np.ndarray, int, int], Blocks]
"""Takes a weight of shape (outputs, features), the bits of an integer and the size of a block."""


def stored_forms(outputs: int, features: int, bits: int, block: int) -> dict[str, tuple[ir.DataType, tuple[int, ...]]]:
    """Return types and shapes of `Blocks.arrays` of a weight."""
    blocks = -(-features // block)
    zeros = outputs * -(-blocks * bits // 8)
    return {
        "q": (ir.DataType.UINT8, (outputs, blocks, block * bits // 8)),
        "scale": (ir.DataType.FLOAT, (outputs * blocks,)),
        "zero": (ir.DataType.UINT8, (zeros,)),
    }


def row_forms(rows: int, features: int, bits: int, block: int) -> dict[str, tuple[ir.DataType, tuple[int, ...]]]:
    """Return types and shapes of `Blocks.rows` of a table whose rows are whole blocks."""
    forms = stored_forms(rows, features, bits, block)
    return {name: (kind, (rows, math.prod(shape) // rows)) for name, (kind, shape) in forms.items()}


def by_rows(rounding: Rounding, weight: np.ndarray, bits: int, block: int) -> Blocks:
    """Return `weight` rounded by `rounding`, a few outputs at a time; outputs do not depend on each other."""
    rows = max(_AT_ONCE // max(weight.shape[1], 1), 1)
    parts = [rounding(weight[i : i + rows], bits, block) for i in range(0, len(weight), rows)]
    integers, scale, zero = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("integers", "scale", "zero_point")
    )
    return Blocks(integers, scale, zero, bits, weight.shape[1])


def round_to_nearest(weight: np.ndarray, bits: int, block: int) -> Blocks:
    """Return `weight`, shape (outputs, features), with the range of each block mapped to all integers."""
    blocks = in_blocks(weight, block)
    scale, zero = grid_of(blocks, bits)
    # The padding of the last block is zero, which rounds to the zero point.
    steps = blocks / scale[..., None]
    np.rint(steps, out=steps)
    steps += zero[..., None]
    np.clip(steps, 0, 2**bits - 1, out=steps)
    return Blocks(steps.astype(np.uint8), scale, zero, bits, weight.shape[1])


def grid_of(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and zero point that map the range of the last axis, zero included, to all integers."""
    low, high = np.minimum(values.min(axis=-1), 0), np.maximum(values.max(axis=-1), 0)
    most = 2**bits - 1
    scale = ((high - low) / most).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    return scale, np.clip(np.rint(-low / scale), 0, most).astype(np.uint8)


def shrunk(weight: np.ndarray, bits: int, block: int, rounds: int = 20) -> Blocks:
    """Return `weight` with scales and zero points that fit most values of a block best, and its outliers less.

    Badri & Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023: the error is split into a
    sparse part, which absorbs outliers, and a rest that is fitted by least squares. The runtime needs integer zero
    points, so the scale is fitted too. A block keeps its plain grid if that has the smaller error.
    """
    plain, blocks, most = round_to_nearest(weight, bits, block), in_blocks(weight, block), 2**bits - 1
    scale, zero = plain.scale[..., None], plain.zero_point[..., None].astype(np.float32)
    integers = plain.integers.astype(np.float32)
    best, least, beta = (integers, scale, zero), np.full(scale.shape, np.inf), _BETA
    for _ in range(rounds):
        gap = blocks - (integers - zero) * scale
        size = np.abs(gap)
        error = (size**_POWER).sum(-1, keepdims=True)
        better = error < least
        best = (
            np.where(better, integers, best[0]),
            np.where(better, scale, best[1]),
            np.where(better, zero, best[2]),
        )
        least = np.minimum(error, least)
        sparse = np.sign(gap) * np.maximum(size - _POWER / beta * np.maximum(size, 1e-12) ** (_POWER - 1), 0)
        target = blocks - sparse
        zero = np.clip(np.rint((integers - target / scale).mean(-1, keepdims=True)), 0, most)
        steps = integers - zero
        norm = np.square(steps).sum(-1, keepdims=True)
        fitted = (steps * target).sum(-1, keepdims=True) / np.where(norm > 0, norm, 1)
        scale = np.where(fitted > np.finfo(np.float32).tiny, fitted, scale).astype(np.float32)
        integers = np.clip(np.rint(blocks / scale) + zero, 0, most)
        beta *= _GROWTH
    # The padding of the last block stays zero.
    integers, scale, zero = (
        part.astype(kind) for part, kind in zip(best, (np.uint8, np.float32, np.uint8), strict=True)
    )
    return Blocks(integers, scale[..., 0], zero[..., 0], bits, weight.shape[1])


def in_blocks(weight: np.ndarray, block: int) -> np.ndarray:
    """Return `weight` as (outputs, blocks, block), padded with zeros."""
    rows, features = weight.shape
    padded = -(-features // block) * block
    if weight.strides[0] >= weight.strides[1]:
        filled = np.zeros((rows, padded), np.float32)
        filled[:, :features] = weight
        return filled.reshape(rows, -1, block)
    # Transposed in memory: so that it stays, for numpy then goes through many outputs at a time.
    filled = np.zeros((padded, rows), np.float32)
    filled[:features] = weight.T
    return filled.reshape(-1, block, rows).transpose(2, 0, 1)


def _in_bytes(integers: np.ndarray, bits: int) -> np.ndarray:
    """Return integers packed along the last axis, the first one in the lowest bits of a byte."""
    each = 8 // bits
    packed = integers[..., 0::each].copy()
    for place in range(1, each):
        packed |= integers[..., place::each] << (bits * place)
    return packed
