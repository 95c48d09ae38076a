"""Metrics of models that give numbers: MAE, RMSE, R2."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, misfit, numbers_of
from onnxopt.measure.metrics.score import Metric, mean_of
from onnxopt.samples.core import Array


def _pairs(metric: Metric, outputs: Outputs, labels: Array) -> tuple[Array, Array]:
    """Return predictions and labels, both `(n, targets)`."""
    truth = np.asarray(labels)
    if truth.dtype.kind not in "fiub":
        raise misfit("the labels are not numbers", "A regression metric needs numbers as labels.", where=metric.name)
    truth = truth.astype(np.float64)
    predicted = numbers_of(outputs, metric.output)
    if predicted.size != truth.size:
        why = f"outputs of shape {list(predicted.shape)} for labels of shape {list(truth.shape)}"
        raise misfit(why, "Give labels of the output's shape, or name another output.", where=metric.name)
    return predicted.reshape(len(truth), -1), truth.reshape(len(truth), -1)


@dataclass(frozen=True)
class Mae(Metric):
    """Mean absolute error over samples and targets."""

    output: str | None = None
    name = "mae"
    unit: ClassVar[str] = "label units"
    higher_is_better = False

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 1)`, the mean absolute error of each sample."""
        predicted, truth = _pairs(self, outputs, labels)
        return np.asarray(np.abs(predicted - truth).mean(axis=1, keepdims=True))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the mean error."""
        return np.asarray(mean_of(rows, counts)[:, 0])


@dataclass(frozen=True)
class Rmse(Metric):
    """Root mean squared error over samples and targets."""

    output: str | None = None
    name = "rmse"
    unit: ClassVar[str] = "label units"
    higher_is_better = False

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 1)`, the mean squared error of each sample."""
        predicted, truth = _pairs(self, outputs, labels)
        return np.asarray(((predicted - truth) ** 2).mean(axis=1, keepdims=True))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the root of the mean squared error."""
        return np.asarray(np.sqrt(mean_of(rows, counts)[:, 0]))


@dataclass(frozen=True)
class R2(Metric):
    """Coefficient of determination, the mean over targets."""

    output: str | None = None
    name = "r2"
    bounded: ClassVar[bool] = True
    undefined: ClassVar[str] = "All labels are equal, or a number is none: give samples whose labels differ."

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 2 * targets)`: squared errors, then labels."""
        predicted, truth = _pairs(self, outputs, labels)
        return np.hstack(((predicted - truth) ** 2, truth))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return R2 of resampled rows; NaN if all drawn labels are equal."""
        errors, truth = np.hsplit(rows, 2)
        truth = truth - truth.mean(axis=0)  # avoids cancellation in the variance below
        variance = mean_of(truth**2, counts) - mean_of(truth, counts) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(variance > 0, 1 - mean_of(errors, counts) / variance, np.nan).mean(axis=1))
