"""Ridge least squares on streamed moments, and the removal of the units with the least error after a refit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.reconstruction.moments import Moments


def ridge(moments: Moments, weight: np.ndarray, kept: np.ndarray, strength: float) -> np.ndarray:
    """Return the least-squares weights on the kept features, shape (O, D), zero elsewhere.

    W' = W_S + (Y - X_S W_S^T)^T X_S (X_S^T X_S + lambda I)^-1: the ridge pulls towards the old weights.

    Args:
        moments: moments of inputs and targets.
        weight: weight of the layer, shape (O, D).
        kept: mask of the kept features, shape (D,).
        strength: lambda as a share of the mean variance of the features.
    """
    inner = moments.xx[np.ix_(kept, kept)]
    start = weight[:, kept]
    gap = moments.xy[kept] - inner @ start.T
    damped = inner + np.eye(len(inner)) * max(strength * float(np.trace(inner)) / max(len(inner), 1), 1e-12)
    result = np.zeros_like(weight)
    raise_if_interrupted()
    result[:, kept] = start + scipy.linalg.solve(damped, gap, assume_a="pos").T
    return result


_TOGETHER = 64
"""Most units that are removed one at a time; of twice as many, two are removed at a time, and so on."""


@dataclass
class Elimination:
    """Removes units from one layer one after the other, and compensates each removal with the other weights.

    Structured optimal brain surgeon on the layer's least squares error (Hassibi & Stork 1993 for single weights; Kwon
    et al., "Optimal Brain Compression", NeurIPS 2022, for blocks): with P the inverse of the inputs' covariance and B
    the solution, removing the features c raises the error by tr(B_c^T P_cc^-1 B_c).

    Attributes:
        units: features of each unit, shape (units, width).
        pull: the part of the ridge in the loss of a unit, which is no error, shape (units,).
    """

    units: np.ndarray
    pull: np.ndarray
    inverse: np.ndarray
    solution: np.ndarray
    total: float

    @classmethod
    def of(cls, moments: Moments, weight: np.ndarray, units: Sequence[Sequence[int]], strength: float) -> "Elimination":
        """Return an elimination that starts with all features.

        Args:
            moments: the moments of inputs and targets.
            weight: the weight of the layer, shape (O, D).
            units: features of each unit, the same number for all.
            strength: ridge, as a share of the mean variance of the features.
        """
        size = len(moments.xx)
        damping = max(strength * float(np.trace(moments.xx)) / max(size, 1), 1e-12)
        raise_if_interrupted()
        inverse = scipy.linalg.inv(moments.xx + np.eye(size) * damping, overwrite_a=True)
        # The ridge pulls towards the present weights, as in the fit that follows.
        solution = inverse @ (moments.xy + damping * weight.T)
        features = np.asarray(units, np.int64)
        pull = damping * np.square(weight).sum(0)[features].sum(1)
        return cls(features, pull, inverse, solution, float(moments.yy.sum()))

    def losses(self, candidates: np.ndarray) -> np.ndarray:
        """Return the increase of the squared error if each of the `candidates` alone is removed."""
        chosen = self.units[candidates]
        blocks = self.inverse[chosen[:, :, None], chosen[:, None, :]]
        parts = self.solution[chosen]
        rises = np.einsum("uko,uko->u", parts, np.linalg.solve(blocks, parts))
        return np.asarray(np.maximum(rises - self.pull[candidates], 0.0))

    def remove(self, units: np.ndarray) -> float:
        """Remove units together and refit the others; return the increase of the error."""
        c = self.units[units].reshape(-1)
        columns, rows = self.inverse[:, c], self.solution[c].copy()
        size = len(self.inverse)
        gain = np.linalg.solve(self.inverse[np.ix_(c, c)], np.concatenate([columns.T, rows], 1))
        self.inverse -= columns @ gain[:, :size]
        self.solution -= columns @ gain[:, size:]
        # Blocks of removed units stay regular, so that the blocks of all units can be solved at once.
        self.inverse[c, :] = self.inverse[:, c] = 0.0
        self.inverse[c, c] = 1.0
        self.solution[c] = 0.0
        return max(float(np.einsum("ko,ko->", rows, gain[:, size:]) - self.pull[units].sum()), 0.0)


def removal_order(layers: Sequence[Elimination], weights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the units in the order of least error, and the error after each removal, summed with `weights` of layers.

    The last unit is never removed. `layers` are modified.
    """
    left = np.arange(len(layers[0].units))
    order, errors, error = list[int](), list[float](), 0.0
    while len(left) > 1:
        losses = np.sum([w * layer.losses(left) for layer, w in zip(layers, weights, strict=True)], axis=0)
        together = max(1, len(left) // _TOGETHER)
        lowest = np.argsort(losses, kind="stable")[:together]
        gone = left[lowest]
        rise = sum(w * layer.remove(gone) for layer, w in zip(layers, weights, strict=True))
        errors += [error + rise * part / together for part in range(1, together + 1)]
        error += rise
        order += gone.tolist()
        left = np.delete(left, lowest)
    return np.array(order, np.int64), np.array(errors)
