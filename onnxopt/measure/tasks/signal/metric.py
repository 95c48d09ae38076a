"""Sound and images against references."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, chosen, is_float, misfit
from onnxopt.measure.metrics.score import Metric, mean_of
from onnxopt.measure.tasks.signal.channels import decibels, si_sdr
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class SignalRatio(Metric):
    """Mean ratio of signal and error in dB: SI-SDR of sound, or PSNR of images.

    Labels are the true signals, of the output's shape. PSNR is relative to the range of the labels: 255 if they
    exceed 1, else 2 if some are negative, else 1.

    Attributes:
        name: `si-sdr` or `psnr`.
        output: output with the signal; None takes the first output of numbers.
    """

    name: Literal["si-sdr", "psnr"]
    output: str | None = None
    unit: ClassVar[str] = "dB"

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 1)` in dB for SI-SDR; `(n, 3)` squared error, largest and least label for PSNR.

        Raises:
            DataError: ONX209 the shape of labels differs from the output's.
        """
        name = self.output or next((key for key, value in outputs.items() if is_float(value)), None)
        found: Array = np.asarray(chosen(outputs, name), dtype=np.float64) if name is not None else np.empty(0)
        truth = np.asarray(labels)
        if truth.dtype.kind not in "iuf" or truth.size != found.size or len(truth) != len(found):
            why = f"labels {truth.dtype} of shape {list(truth.shape)} for an output of shape {list(found.shape)}"
            raise misfit(why, "Give the true signal of each sample, at the size of the output.", where=self.name)
        one, other = truth.reshape(len(truth), -1).astype(np.float64), found.reshape(len(truth), -1)
        with np.errstate(invalid="ignore", over="ignore"):
            if self.name == "si-sdr":
                return si_sdr(one, other)[:, None]
            return np.column_stack((((one - other) ** 2).mean(axis=1), one.max(axis=1), one.min(axis=1)))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the mean over resampled samples."""
        if self.name == "si-sdr":
            return np.asarray(mean_of(rows, counts)[:, 0])
        peak = peak_of(rows[:, 1:])
        return np.asarray(mean_of(decibels(np.full(len(rows), peak**2), rows[:, 0])[:, None], counts)[:, 0])


def peak_of(labels: Array) -> float:
    """Return the range of the values of images: 255 if they exceed 1, else 2 if some are negative, else 1."""
    return 255.0 if labels.max() > 1 else 2.0 if labels.min() < 0 else 1.0
