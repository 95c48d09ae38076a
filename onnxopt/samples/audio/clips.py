"""Folders of sound: whole clips, or consecutive windows of equal length."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, gcd
from pathlib import Path
from threading import Lock

import numpy as np

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.audio.files import SoundFile, is_sound, read_frames, sound_file
from onnxopt.samples.audio.waveform import WaveInput, wave_input
from onnxopt.samples.images import find_files


@dataclass(eq=False)
class _LastClip:
    """The clip that was resampled last; windows of one clip are read one after another."""

    lock: Lock = field(default_factory=Lock)
    path: Path | None = None
    wave: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Clips:
    """Windows of sound files, each `(file, start)` in samples at `rate`; a clip without windows is one whole.

    Attributes:
        rate: Hz that the model gets.
        windows: file and start of every sample, in order.
        length: samples per window; None for whole clips.
    """

    name: str
    files: Sequence[SoundFile]
    labels: np.ndarray | None
    target: WaveInput
    rate: int
    windows: Sequence[tuple[int, int]]
    length: int | None
    _last: _LastClip = field(default_factory=_LastClip)

    @property
    def stacks(self) -> bool:
        """Whether a sample lacks the batch axis."""
        return self.target.stacks

    @property
    def sequences(self) -> np.ndarray:
        """Number of the file of each sample; windows of one file are consecutive."""
        return np.array([file for file, _ in self.windows])

    def __len__(self) -> int:
        return len(self.windows)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return one window, filled up with silence where its clip is shorter."""
        number, start = self.windows[index]
        wave = self._part(self.files[number], start)
        own = len(wave)
        if self.length is not None and own < self.length:
            wave = np.pad(wave, (0, self.length - own))
        feeds = {self.target.name: wave[None] if self.target.channel_axis else wave}
        for spec, value in ((self.target.rate, self.rate), (self.target.count, own)):
            if spec is not None:
                feeds[spec.name] = np.full((1,) if spec.shape and not self.stacks else (), value, spec.dtype)
        if not self.stacks:
            feeds[self.target.name] = feeds[self.target.name][None]
        return feeds

    def _part(self, file: SoundFile, start: int) -> np.ndarray:
        whole = _length_at(file, self.rate)
        stop = whole if self.length is None else min(start + self.length, whole)
        if file.rate == self.rate:
            return read_frames(file, start, stop - start)
        with self._last.lock:
            if self._last.path != file.path or self._last.wave is None:
                self._last.wave, self._last.path = _resampled(file, self.rate), file.path
            return self._last.wave[start:stop]


def open_sounds(folder: Path, signature: Signature, options: ReadOptions) -> Clips:
    """Return the sound under `folder`, labelled as folders of images are.

    Windows follow each other without overlap; the rest of a clip that fills none is left out, and a clip shorter than
    one window is filled up with silence.

    Raises:
        DataError: ONX201 damaged, ONX202 or ONX203 the model takes no waveform, ONX206 labels do not fit.
        UsageError: ONX108 soundfile is not installed, ONX113 the files differ in rate and none was given.
    """
    target = wave_input(signature, options)
    paths, labels = find_files(folder, signature, is_sound, "sounds")
    files = [sound_file(path) for path in paths]
    rate = options.sample_rate or _common_rate(folder, files)
    length = target.length
    windows = [(number, start) for number, file in enumerate(files) for start in _starts(file, rate, length)]
    if labels is not None:
        labels = labels[[number for number, _ in windows]]
    return Clips(str(folder), files, labels, target, rate, windows, length)


def _common_rate(folder: Path, files: Sequence[SoundFile]) -> int:
    rates = sorted({file.rate for file in files})
    if not rates:
        raise DataError("ONX205", "there are no samples", where=str(folder), hint="Give at least one sound.")
    if len(rates) > 1:
        other = next(file for file in files if file.rate != files[0].rate)
        raise UsageError(
            "ONX113",
            "the files differ in sampling rate",
            where=str(other.path),
            why=f"{other.rate} Hz, and {files[0].path.name} has {files[0].rate} Hz",
            hint="Give the rate that the model was trained at (option `sample_rate`): all are resampled to it.",
        )
    return rates[0]


def _length_at(file: SoundFile, rate: int) -> int:
    return ceil(file.frames * rate / file.rate) if file.rate != rate else file.frames


def _starts(file: SoundFile, rate: int, length: int | None) -> range:
    if length is None:
        return range(1)
    return range(0, max(_length_at(file, rate) // length, 1) * length, length)


def _resampled(file: SoundFile, rate: int) -> np.ndarray:
    """Return a whole clip at another rate, by a polyphase filter (scipy's Kaiser window, 60 dB)."""
    from scipy.signal import resample_poly

    common = gcd(file.rate, rate)
    wave = resample_poly(read_frames(file, 0, file.frames), rate // common, file.rate // common)
    return np.asarray(wave, np.float32)
