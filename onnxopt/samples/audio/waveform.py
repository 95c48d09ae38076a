"""The input of a model that takes a waveform, and the numbers that go with it."""

from dataclasses import dataclass

from onnxopt.errors import DataError, OnnxoptError, UsageError
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.expect import has_batch_axis

_RATES = ("sr", "rate", "sampling")
_LENGTHS = ("len",)
_LEAST_WINDOW = 256
"""Samples of a window of sound: 16 ms at 16 kHz."""


@dataclass(frozen=True)
class WaveInput:
    """The inputs of a model of sound.

    Attributes:
        name: the name of the waveform.
        channel_axis: whether the waveform has an axis of one channel between batch and time.
        length: samples at a time; None for any number.
        rate: input that takes the sampling rate, if any.
        count: input that takes the number of samples, if any.
        stacks: whether the first axis of every input counts clips.
    """

    name: str
    channel_axis: bool
    length: int | None
    rate: TensorSpec | None
    count: TensorSpec | None
    stacks: bool


def wave_input(signature: Signature, options: ReadOptions) -> WaveInput:
    """Return the form of a model's sound: `[N, T]` or `[N, 1, T]` floats, and at most the rate and the length.

    Raises:
        DataError: ONX202 it has an input that sound does not give, ONX203 it takes no waveform.
        UsageError: ONX109 the model fixes another window than the options.
    """
    rate = _scalar(signature, _RATES)
    count = _scalar(signature, _LENGTHS)
    rest = [spec for spec in signature.inputs if spec not in (rate, count)]
    if len(rest) > 1:
        raise DataError(
            "ONX202",
            "the model takes more than a waveform",
            where=", ".join(str(spec) for spec in rest),
            why="sound gives one input, its sampling rate and its length",
            hint="If the others are states of the step before, `onnxopt data` makes them by running the model.",
        )
    spec = rest[0] if rest else None
    rank = len(spec.shape) if spec is not None and spec.shape is not None else 0
    middle = 1 if spec is None or spec.shape is None or rank != 3 else spec.shape[1]
    if spec is None or spec.shape is None or "float" not in spec.dtype or rank not in (2, 3) or middle != 1:
        raise DataError(
            "ONX203",
            "the model does not take a waveform",
            where=str(signature),
            why="a waveform is [N, T] or [N, 1, T] floats",
            hint="Features such as spectra must be computed as in training: give them as .npz.",
        )
    last = spec.shape[-1]
    length = last if isinstance(last, int) else None
    if options.window is not None and length not in (None, options.window):
        raise UsageError("ONX109", "the model fixes the window", where=str(spec), hint="Leave the window out.")
    return WaveInput(spec.name, rank == 3, length or options.window, rate, count, has_batch_axis(signature))


def likely_wave_input(signature: Signature) -> WaveInput | None:
    """Return the waveform that a model takes; None for one too short to be sound, as a table of features has."""
    try:
        target = wave_input(signature, ReadOptions())
    except OnnxoptError:
        return None
    long = target.rate is not None or target.channel_axis or (target.length or 0) >= _LEAST_WINDOW
    return target if long else None


def _scalar(signature: Signature, words: tuple[str, ...]) -> TensorSpec | None:
    """Return the input of one number whose name has one of `words`."""
    for spec in signature.inputs:
        single = spec.shape is not None and len(spec.shape) <= 1 and (not spec.shape or spec.shape[0] != 0)
        if single and spec.dtype != "str" and any(word in spec.name.lower() for word in words):
            return spec
    return None
