"""Weights quantized block by block along the inputs of each output, and packed as MatMulNBits reads them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """A weight in blocks; value = (integer - zero_point) * scale.

    Attributes:
        integers: uint8, of shape (outputs, blocks, block); the last block is filled up with zero points.
        scale: float32, of shape (outputs, blocks).
        zero_point: uint8, of shape (outputs, blocks).
        bits: of an integer, 4 or 8.
        features: inputs, without what fills up the last block.
    """

    integers: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    bits: int
    features: int

    def dequantized(self) -> np.ndarray:
        """Return the float32 weight, of shape (outputs, features)."""
        difference = self.integers.astype(np.float32) - self.zero_point[..., None].astype(np.float32)
        weight = difference * self.scale[..., None]
        return np.asarray(weight.reshape(len(weight), -1)[:, : self.features])

    def packed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return weights (outputs, blocks, bytes), scales and zero points; the low half of a byte comes first."""
        if self.bits == 8:
            return self.integers, self.scale, self.zero_point
        odd = self.zero_point.shape[1] % 2
        zeros = np.pad(self.zero_point, ((0, 0), (0, odd)))
        return _halves(self.integers), self.scale, _halves(zeros)


def round_to_nearest(weight: np.ndarray, bits: int, block: int) -> Blocks:
    """Return `weight`, of shape (outputs, features), with the range of each block spread over all integers."""
    blocks = _split(weight, block)
    low, high = np.minimum(blocks.min(axis=-1), 0), np.maximum(blocks.max(axis=-1), 0)
    most = 2**bits - 1
    scale = ((high - low) / most).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    zero = np.clip(np.rint(-low / scale), 0, most)
    # What fills up the last block is zero, which rounds to the zero point.
    integers = np.clip(np.rint(blocks / scale[..., None]) + zero[..., None], 0, most)
    return Blocks(integers.astype(np.uint8), scale, zero.astype(np.uint8), bits, weight.shape[1])


def _split(weight: np.ndarray, block: int) -> np.ndarray:
    """Return `weight` as (outputs, blocks, block), filled up with zeros."""
    filled = np.pad(weight.astype(np.float32), ((0, 0), (0, -weight.shape[1] % block)))
    return filled.reshape(len(weight), -1, block)


def _halves(integers: np.ndarray) -> np.ndarray:
    return np.asarray(integers[..., 0::2] | (integers[..., 1::2] << 4))
