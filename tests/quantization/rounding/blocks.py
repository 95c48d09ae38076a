"""Weights in blocks as the numbers that they stand for."""

import numpy as np

from onnxopt.quantization.rounding.blockwise import Blocks


def dequantized(blocks: Blocks) -> np.ndarray:
    """Return the float32 weight, of shape (outputs, features)."""
    difference = blocks.integers.astype(np.float32) - blocks.zero_point[..., None].astype(np.float32)
    weight = difference * blocks.scale[..., None]
    return np.asarray(weight.reshape(len(weight), -1)[:, : blocks.features])
