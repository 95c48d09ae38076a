"""Sound files: WAV, FLAC and Ogg, decoded by libsndfile, in one channel."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import DataError, UsageError, first_line
from onnxopt.extras import READING, require
from onnxopt.files import open_regular

SOUND_SUFFIXES = frozenset((".wav", ".flac", ".ogg"))
MOST_FRAMES = 1 << 26
"""Of one file: 70 minutes at 16 kHz; a waveform of 256 MiB."""
_BLOCK = 1 << 16
_STARTS = (b"RIFF", b"fLaC", b"OggS")
_HINT = "Give WAV, FLAC or Ogg files, and leave damaged ones out."


@dataclass(frozen=True)
class SoundFile:
    """A file, its sampling rate in Hz and its frames, as its header says."""

    path: Path
    rate: int
    frames: int
    channels: int


def is_sound(path: Path) -> bool:
    """Return whether a file is a sound, by its name."""
    return path.suffix.lower() in SOUND_SUFFIXES and not path.name.startswith(".")


def sound_file(path: Path) -> SoundFile:
    """Read the header of a file.

    Raises:
        DataError: ONX201 it is not audio, or too long, or empty.
        UsageError: ONX108 soundfile is not installed.
    """
    with _opened(path) as sound:
        found = SoundFile(path, int(sound.samplerate), int(sound.frames), int(sound.channels))
    if not 0 < found.frames <= MOST_FRAMES:
        why = f"{found.frames} frames; 1 to {MOST_FRAMES} are read"
        raise DataError(
            "ONX201", "the sound is empty or too long", where=str(path), why=why, hint="Give clips within these limits."
        )
    return found


def read_frames(file: SoundFile, start: int, count: int) -> np.ndarray:
    """Return `count` frames from `start` on as float32 in -1..1, the mean of the channels.

    Raises:
        DataError: ONX201 there are fewer, or they cannot be decoded.
    """
    mono = np.empty(count, np.float32)
    with _opened(file.path) as sound:
        sound.seek(start)
        for at in range(0, count, _BLOCK):
            part = sound.read(min(_BLOCK, count - at), dtype="float32", always_2d=True)
            if len(part) != min(_BLOCK, count - at):
                raise ValueError(f"it ends after {start + at + len(part)} frames; its header says {file.frames}")
            mono[at : at + len(part)] = part.mean(axis=1)
    return mono


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of one of the three formats; all that goes wrong while it is used is ONX201."""
    module = require("soundfile", "audio", READING)
    try:
        with open_regular(path) as file:
            start = file.read(12)
            if not start.startswith(_STARTS) or (start.startswith(b"RIFF") and start[8:] != b"WAVE"):
                raise ValueError("it is neither WAV nor FLAC nor Ogg")
            file.seek(0)
            with module.SoundFile(file) as sound:
                yield sound
    except (DataError, UsageError):
        raise
    except Exception as error:  # libsndfile's errors, and what Python's decoders raise on damaged files
        why = first_line(error)
        raise DataError("ONX201", "not a readable sound file", where=str(path), why=why, hint=_HINT) from error
