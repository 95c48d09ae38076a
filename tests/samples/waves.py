"""Sound files for tests, written with the standard library."""

import wave
from pathlib import Path

import numpy as np


def write(path: Path, frames: np.ndarray, rate: int = 16000) -> None:
    """Write 16-bit PCM; `frames` is (n,) or (n, channels) in -1..1."""
    frames = frames[:, None] if frames.ndim == 1 else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(frames * 32768).clip(-32768, 32767).astype("<i2").tobytes())


def tone(count: int, rate: int = 16000, hz: float = 440) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(count) / rate)
