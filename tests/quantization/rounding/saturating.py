"""INT8 products as x86 without VNNI computes them, where sums of neighbouring products saturate in 16 bits."""

from dataclasses import dataclass

import numpy as np

from onnxopt.quantization.rounding.saturation import HIGH, LOW


@dataclass(frozen=True)
class PairSums:
    """The extremes that the sum of two neighbouring products can reach, over all outputs of a layer."""

    low: int
    high: int

    @property
    def saturates(self) -> bool:
        """Whether 16 bits cannot hold them."""
        return self.low < LOW or self.high > HIGH


def bound(weights: np.ndarray, largest: int = 255) -> PairSums:
    """Return the extremes for activations from 0 to `largest`.

    Args:
        weights: int8, shape (outputs, inputs), in the order in which the kernel reduces; see `reduced`.
        largest: quantized activation that occurs.
    """
    pairs = _paired(weights.astype(np.int64))
    low = np.minimum(pairs, 0).sum(-1).min(initial=0)
    high = np.maximum(pairs, 0).sum(-1).max(initial=0)
    return PairSums(int(low) * largest, int(high) * largest)


def multiply(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return activations @ weights.T as such a processor computes it, in 32 bits: shape (rows, outputs).

    Args:
        activations: uint8, shape (rows, inputs).
        weights: int8, shape (outputs, inputs).
    """
    x, w = _paired(activations.astype(np.int32)), _paired(weights.astype(np.int32))
    total = np.zeros((len(x), len(w)), np.int32)
    for pair in range(x.shape[1]):
        sums = x[:, None, pair, 0] * w[None, :, pair, 0] + x[:, None, pair, 1] * w[None, :, pair, 1]
        total += np.clip(sums, LOW, HIGH)
    return total


def _paired(rows: np.ndarray) -> np.ndarray:
    """Return shape (rows, pairs, 2); an odd last column is paired with zeros."""
    odd = rows.shape[1] % 2
    padded = np.pad(rows, ((0, 0), (0, odd)))
    return padded.reshape(len(rows), -1, 2)
