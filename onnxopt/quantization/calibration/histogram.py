"""Statistics of one tensor: extremes and a histogram of fixed size, for any number of samples."""

from dataclasses import dataclass, field

import numpy as np

from onnxopt.quantization.calibration.spread import Spread

BINS = 2048
LEVELS = 256


@dataclass(frozen=True)
class Extremes:
    """The smallest and largest value of one tensor.

    Attributes:
        mean_low: mean over runs of the smallest value; `mean_high` of the largest.
        spread: spread of the values; None if unknown.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    spread: Spread | None = field(default=None, kw_only=True)

    @property
    def magnitude(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Histogram(Extremes):
    """Counts of the values of one tensor in `BINS` equal bins over [low, high]; values outside are left out."""

    counts: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """Borders of the bins, shape (BINS + 1,)."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centers(self) -> np.ndarray:
        """Middle of each bin, shape (BINS,)."""
        step = (self.high - self.low) / len(self.counts)
        return self.low + step * (np.arange(len(self.counts)) + 0.5)


@dataclass(frozen=True)
class Range:
    """The interval that the integer grid covers; it contains zero, so that zero is exact."""

    low: float
    high: float

    @staticmethod
    def around_zero(low: float, high: float) -> "Range":
        """Return the smallest range that covers `low`, `high` and zero."""
        return Range(min(float(low), 0.0), max(float(high), 0.0))
