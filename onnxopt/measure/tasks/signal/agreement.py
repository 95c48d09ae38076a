"""Agreement of two models with sound or images as output."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, chosen
from onnxopt.measure.tasks.signal.channels import SignalKind, decibels, si_sdr, signal_channels, spectrum
from onnxopt.options.tasks import SignalDomain
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

SILENCE = 1e-3
"""Smallest spread of a sample, as a share of its channel's spread over all samples: an error in silence is measured
against the sound around it.
"""

_PER_CHANNEL = 5


@dataclass(frozen=True)
class SignalAgreement(Comparison):
    """One minus the RMS error of a sample relative to its spread, averaged over samples; the worst channel counts.

    A drop of 1 point is an error 40 dB below the signal, 3 points 30 dB, 10 points 20 dB. A louder signal counts as
    different. An error is at most 1. One clip or image is one sample. With `spectrum`, the magnitudes of the signals'
    Fourier transforms are compared in the same units, windowed for sound; this ignores phase, because a vocoder may
    give another waveform of the same sound. SI-SDR (sound) or PSNR (images) and the relative error of the spectrum are
    shown beside it.

    Attributes:
        output: the signal.
        kind: `sound` `(n, T)` or `(n, channels, T)`, or `image`.
        axis: axis of an image's channels.
        domain: `waveform` compares the numbers, `spectrum` magnitudes of the spectra.
    """

    output: str
    kind: SignalKind
    axis: int = 1
    domain: SignalDomain = "waveform"
    unit: ClassVar[str] = "share"

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the comparison."""
        return "1 - relative error of the spectrum" if self.domain == "spectrum" else "1 - relative error of the signal"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 2 + 5 * channels)`.

        The columns are SI-SDR and range of the baseline, then per channel error, variance, error of the spectrum, power
        of the spectrum, and a column of 1; powers are means over the elements.
        """
        one = signal_channels(chosen(before, self.output), self.kind, self.axis)
        other = signal_channels(chosen(after, self.output), self.kind, self.axis)
        if one.shape != other.shape:  # signals of different shape cannot be compared: all is lost
            other = np.full_like(one, np.inf)
        n, channels = one.shape[:2]
        rest = tuple(range(2, one.ndim))
        with np.errstate(invalid="ignore", over="ignore"):
            other = np.where(np.isfinite(other), other, one + 1e6 * (np.abs(one).max(initial=0) + 1))
            error = ((one - other) ** 2).mean(axis=rest)
            before_spectrum = spectrum(one)
            spectral = ((before_spectrum - spectrum(other)) ** 2).mean(axis=tuple(range(2, before_spectrum.ndim)))
            power = (before_spectrum**2).mean(axis=tuple(range(2, before_spectrum.ndim)))
        columns = np.stack((error, one.var(axis=rest), spectral, power, np.ones((n, channels))), axis=2)
        ratio = si_sdr(one.reshape(n, -1), other.reshape(n, -1)) if self.kind == "sound" else np.zeros(n)
        span = one.reshape(n, -1).max(axis=1, initial=-np.inf) - one.reshape(n, -1).min(axis=1, initial=np.inf)
        return np.hstack((ratio[:, None], span[:, None], columns.reshape(n, -1)))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return one minus the worst channel's mean error."""
        first = 2 if self.domain == "spectrum" else 0
        errors = relative_errors(rows, first)
        return np.asarray(1 - (counts @ errors / counts.sum(axis=1, keepdims=True)).max(axis=1))

    def details(self, rows: Array) -> dict[str, float]:
        """Return dB figures and the relative error of the spectrum."""
        spectral = {"relative error of the spectrum": float(relative_errors(rows, 2).mean(axis=0).max())}
        if self.kind == "sound":
            return {"SI-SDR, dB": float(rows[:, 0].mean())} | spectral
        error = rows[:, 2:].reshape(len(rows), -1, _PER_CHANNEL)[..., 0].mean(axis=1)
        return {"PSNR, dB": float(decibels(np.full(len(rows), rows[:, 1].max() ** 2), error).mean())} | spectral


def relative_errors(rows: Array, first: int) -> Array:
    """Return the error of every sample and channel relative to its spread, at most 1, from two columns of powers."""
    parts = rows[:, 2:].reshape(len(rows), -1, _PER_CHANNEL)
    error, power = parts[..., first], parts[..., first + 1]
    floor = SILENCE**2 * power.mean(axis=0)
    # A channel that is constant everywhere has no spread: any error in it counts as 1.
    spread = np.maximum(power, np.maximum(floor, np.finfo(np.float64).tiny))
    with np.errstate(over="ignore"):
        return np.asarray(np.minimum(np.sqrt(error / spread), 1.0))
