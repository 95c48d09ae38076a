"""Sound and images as channels of numbers, and their spectra."""

from typing import Any, Literal

import numpy as np
from scipy import fft

from onnxopt.measure.metrics.outputs import is_float, misfit
from onnxopt.samples.core import Array

SignalKind = Literal["sound", "image"]

WINDOW = 512
"""Length of a window in samples of sound; windows overlap by half: 32 ms at 16 kHz."""


def signal_channels(value: Any, kind: SignalKind, axis: int = 1) -> Array:
    """Return a signal as `(n, channels, ...)` in float64: `(n, c, T)` for sound, `(n, c, H, W)` for images.

    Args:
        value: `(n, T)`, `(n, c, T)`, `(n, c, H, W)` or, with `axis` -1, `(n, H, W, c)`.
        kind: kind of signal.
        axis: axis of an image's channels.

    Raises:
        DataError: ONX209 the output has another shape.
    """
    array = np.asarray(value)
    wanted = (2, 3) if kind == "sound" else (4,)
    if not is_float(array) and array.dtype.kind not in "iu":
        raise misfit(f"the output is {array.dtype}", "Name an output of numbers.", where="signal")
    if array.ndim == 4 and kind == "sound" and 1 in array.shape[1:3]:
        array = array.reshape(len(array), -1, array.shape[-1])
    if array.ndim not in wanted:
        hint = "Name an output [N, T], [N, C, T], [N, C, H, W] or [N, H, W, C]."
        raise misfit(f"the output has shape {list(array.shape)}", hint, where="signal")
    if array.ndim == 2:
        array = array[:, None]
    return np.asarray(np.moveaxis(array, axis, 1) if kind == "image" else array, dtype=np.float64)


def spectrum(signal: Array) -> Array:
    """Return magnitudes of a signal `(..., T)` window by window (Hann), or of an image `(..., H, W)` as a whole."""
    if signal.ndim == 4:
        centred = signal - signal.mean(axis=(-2, -1), keepdims=True)
        return np.abs(fft.rfft2(centred, axes=(-2, -1)))
    size = min(WINDOW, signal.shape[-1])
    padded = np.pad(signal, ((0, 0), (0, 0), (size // 2, size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[..., :: max(size // 2, 1), :]
    return np.abs(fft.rfft(frames * np.hanning(size + 1)[:-1], axis=-1))


def si_sdr(truth: Array, found: Array) -> Array:
    """Return the scale-invariant signal-to-distortion ratio in dB of signals `(n, T)`.

    Source: Le Roux et al., "SDR - half-baked or well done?", 2019.
    """
    truth = truth - truth.mean(axis=-1, keepdims=True)
    found = found - found.mean(axis=-1, keepdims=True)
    tiny = np.finfo(np.float64).tiny
    scale = (truth * found).sum(axis=-1, keepdims=True) / np.maximum((truth**2).sum(axis=-1, keepdims=True), tiny)
    target = scale * truth
    noise = ((found - target) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore"):
        return np.asarray(decibels((target**2).sum(axis=-1), noise))


def decibels(signal: Array, noise: Array) -> Array:
    """Return a ratio of powers in decibels, limited to -120..120 dB so that none is infinite."""
    tiny = np.finfo(np.float64).tiny
    return np.asarray(
        np.clip(10 * (np.log10(np.maximum(signal, tiny)) - np.log10(np.maximum(noise, tiny))), -120.0, 120.0)
    )
