"""The interface of metrics: outputs and labels of a batch to one row of statistics per sample, and rows to a figure.

Rows are small, so the rows of a whole data set fit in memory. They are paired: the same index is the same sample.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.samples.core import Array


class Score(ABC):
    """A figure computed from rows of per-sample statistics, or from any resample of them.

    Attributes:
        name: the name that the user gave.
        output: the model output to score; None takes the first that fits.
        higher_is_better: whether a larger value is a better model.
        unit: unit of the value; empty for a dimensionless score.
        binary: whether a sample is right or wrong (1 or 0 in the first column) and the value the share of right ones.
        bounded: whether 1 is perfect and 0 (about) useless, so that one point is 0.01.
        relative: whether the baseline is perfect by definition, because candidates are compared with it.
        most_lost: largest drop by a sample of a kind that was not seen, for figures of rare events; None where
            resampling shows what samples lose.
        resamples: number of bootstrap resamples.
        undefined: hint for the user if the figure is undefined on the samples.
    """

    name: str
    output: str | None
    higher_is_better: bool = True
    unit: ClassVar[str] = ""
    binary: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    relative: ClassVar[bool] = False
    most_lost: ClassVar[float | None] = None
    resamples: ClassVar[int] = 1000
    undefined: ClassVar[str] = "Give more samples, or another metric."

    @abstractmethod
    def values(self, rows: Array, counts: Array) -> Array:
        """Return the figure of resampled rows, from the count of each row: `(resamples, n)` -> `(resamples,)`."""

    def least_drop(self, rows: Array) -> float:
        """Return a lower bound of the drop that a candidate's rows show beyond the figure; 0 for none."""
        return 0.0

    def telling(self, rows: Array) -> int:
        """Return the number of samples that the figure depends on, where some count more, of equal ones as telling."""
        return len(rows)

    def changes(self, before: Array, after: Array) -> tuple[Array, Array] | None:
        """Return the loss of each sample, `(n,)`, negative for a gain, and the most that each sample can lose, `(n,)`.

        Without it (None), only the net figure counts; with it, gains in some samples do not offset losses in others.
        """
        return None

    def value(self, rows: Array) -> float:
        """Return the figure of all rows; NaN if it or an output is undefined."""
        return float(self.values(rows, np.ones((1, len(rows)), dtype=np.int64))[0])

    def details(self, rows: Array) -> dict[str, float]:
        """Return further figures of the same rows by name and unit, which reports show beside the value."""
        return {}


class Metric(Score):
    """A score of outputs against labels."""

    def prepared(self, outputs: Outputs, labels: Array, notes: Mapping[str, str] | None = None) -> "Metric":
        """Return the metric, adapted to the layout of the baseline's outputs where it needs that.

        `notes` are the key-value notes in the baseline's file, such as an exporter's class names.

        Raises:
            DataError: ONX209 outputs or labels do not fit the metric.
        """
        return self

    @abstractmethod
    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, k)` statistics of a batch of `n` samples.

        Raises:
            DataError: ONX209 outputs or labels do not fit the metric.
        """


def drop_in_words(value: float, unit: str) -> str:
    """Return a drop in words: in points if the metric is a share, else the number alone."""
    return f"{100 * value:.2f} points" if unit == "share" else f"{value:.4g}"


def figure_in_words(value: float, unit: str) -> str:
    """Return a score in words: in percent if the metric is a share, else the number with its unit."""
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.4g} {unit}".rstrip()


def percent(probability: float, *, limit: bool = False) -> str:
    """Return a probability in percent with one decimal, the only notation of probabilities.

    Measured probabilities are rounded down and a `limit` up, so that none seems to reach a limit that it misses; none
    is shown as 100 %.
    """
    tenths = math.ceil(1000 * probability - 1e-9) if limit else math.floor(1000 * probability + 1e-9)
    return f"{min(tenths / 10, 99.9):.1f} %"


def mean_of(rows: Array, counts: Array) -> Array:
    """Return the mean row of every resample: `(n, k)` and counts `(resamples, n)` to `(resamples, k)`."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(counts @ rows / counts.sum(axis=1, keepdims=True))
