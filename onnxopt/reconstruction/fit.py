"""Refit of one layer for removed features: by its bias, by a scale per output, or by all its weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onnxopt.measure.output_error import relative_power
from onnxopt.reconstruction.least_squares import ridge
from onnxopt.reconstruction.moments import Moments

Method = Literal["ls", "affine", "bias", "none"]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Ridges that are tried, as shares of the mean variance of the features."""
_NOTHING_LOST = 1e-8
"""Error of single precision, relative to the variance of the targets."""


@dataclass(frozen=True)
class Fit:
    """Weights and bias of a layer after a fit, and their error on held-out samples.

    Attributes:
        weight: shape (outputs, features), zero for removed features.
        offset: added to the bias, shape (outputs,).
        before: mean squared error on held-out samples without the fit, relative to the variance of the targets.
        after: mean squared error on held-out samples with the fit, relative to the variance of the targets.
    """

    weight: np.ndarray
    offset: np.ndarray
    before: float
    after: float

    @property
    def helped(self) -> bool:
        """Return whether the error on held-out samples is lower with the fit."""
        return self.after < self.before


def fitted(
    fit: Moments,
    held_out: Moments,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    kept: np.ndarray,
    outputs: np.ndarray,
    method: Method,
) -> Fit:
    """Return the best fit of a layer with the kept features.

    Args:
        fit: moments of inputs (all features) and targets.
        held_out: moments of other samples; without any, `fit` is judged on itself.
        weight: weight of the layer, shape (outputs, features).
        bias: bias included in the targets, shape (outputs,).
        kept: mask of the kept features.
        outputs: mask of the outputs that are used later.
        method: `ls` is ridge least squares with the best strength on held-out samples, `affine` one scale and offset
            per output that restore its mean and variance, `bias` the offset alone, `none` no change.
    """
    judge = held_out if held_out.count else fit
    lost = np.where(kept, weight, 0.0)
    before = _relative(judge, lost, bias, outputs)
    best = Fit(lost, np.zeros(len(weight)), before, before)
    if before < _NOTHING_LOST:
        return best
    for candidate in _candidates(fit, weight, lost, kept, method):
        offset = fit.mean_y - candidate @ fit.mean_x - bias
        after = _relative(judge, candidate, bias + offset, outputs)
        if after < best.after:
            best = Fit(candidate, offset, before, after)
    return best


def _candidates(
    fit: Moments, weight: np.ndarray, lost: np.ndarray, kept: np.ndarray, method: Method
) -> Iterator[np.ndarray]:
    if method == "none":
        return
    if method == "bias":
        yield lost
    elif method == "affine":
        spread = np.einsum("od,od->o", lost @ fit.xx, lost)
        yield lost * np.sqrt(fit.yy / np.maximum(spread, 1e-12 + 1e-6 * fit.yy))[:, None]
    else:
        for strength in STRENGTHS:
            yield ridge(fit, weight, kept, strength)


def _relative(moments: Moments, weight: np.ndarray, bias: np.ndarray, outputs: np.ndarray) -> float:
    part = replace(moments, mean_y=moments.mean_y[outputs], xy=moments.xy[:, outputs], yy=moments.yy[outputs])
    return relative_power(part.error(weight[outputs], bias[outputs]), float(part.yy.sum()))
