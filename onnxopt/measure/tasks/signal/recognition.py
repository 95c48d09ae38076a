"""Recognition of signals by evidence."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, are_probabilities, is_float
from onnxopt.measure.tasks.evidence import (
    COLOURS,
    declared_shape,
    ends_of,
    float_inputs,
    image_sizes,
    named_like,
    only_output,
)
from onnxopt.measure.tasks.signal.agreement import SignalAgreement
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

_SOUND = ("audio", "wav", "speech", "sound", "signal", "enhanced", "vocals", "pcm")
_SHORTEST = 64
_NO_SIGNAL = ("mask", "seg", "logit", "class", "prob", "score", "embed", "hidden", "feature")


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return a signal if an output is audio, or if an output and an input are images; else None."""
    for name, value in outputs.items():
        if not is_float(value) or not value.size or named_like(name, _NO_SIGNAL):
            continue
        image = _image(name, value, feeds, facts) if value.ndim == 4 else None
        if image is not None:
            axis, reason = image
            return Recognized("signal", (name,), SignalAgreement(name, "image", axis, options.signal), reason)
        reason = _sound(name, value, feeds, facts) if value.ndim in (2, 3) else ""
        if reason:
            return Recognized("signal", (name,), SignalAgreement(name, "sound", 1, options.signal), reason)
    return None


def comparison(
    outputs: Outputs, names: Sequence[str], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> SignalAgreement:
    """Return the comparison of two signals, requested by the user.

    Raises:
        DataError: ONX209 no output has the shape of a signal.
    """
    name = only_output(outputs, names, lambda value: is_float(value) and value.ndim in (2, 3, 4), "a signal")
    shape = np.shape(outputs[name])
    if len(shape) < 4:
        return SignalAgreement(name, "sound", 1, options.signal)
    axis = -1 if shape[1] not in COLOURS and shape[3] in COLOURS else 1
    return SignalAgreement(name, "image", axis, options.signal)


def _image(name: str, value: Array, feeds: Feeds, facts: ModelFacts) -> tuple[int, str] | None:
    ends = ends_of(facts, name)[:1]
    for axis in (1, -1):
        channels = value.shape[axis]
        sides = value.shape[2:4] if axis == 1 else value.shape[1:3]
        moved = np.moveaxis(value, axis, -1)
        if channels not in COLOURS or min(sides) < 8 or (channels > 1 and are_probabilities(moved)):
            continue
        if ends in (("Softmax",), ("LogSoftmax",)) or (channels == 1 and ends == ("Sigmoid",)):
            continue
        alike = [v for v in float_inputs(feeds).values() if v.ndim == 4 and channels in (v.shape[1], v.shape[3])]
        if channels > 1 and ends in (("Tanh",), ("Clip",)):
            return axis, f"{name!r} is an image of {channels} channels that ends in {ends[0]}"
        if alike and any(_scaled(sides, size) for size in image_sizes(feeds)):
            return axis, f"{name!r} is an image of {channels} channel{'s' * (channels > 1)}, as the input is"
    return None


def _scaled(sides: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Return whether the size of an image is a multiple of the input's, up to a border."""
    factors = [side / given for side, given in zip(sides, size, strict=True)]
    return min(factors) > 0.9 and abs(factors[0] - factors[1]) < 0.1


def _sound(name: str, value: Array, feeds: Feeds, facts: ModelFacts) -> str:
    """Return the evidence that an output is audio; empty without any."""
    if value.shape[-1] < _SHORTEST or (value.ndim == 3 and value.shape[1] > 8):
        return ""
    if named_like(name, _SOUND):
        return f"{name!r} is called so, and holds {value.shape[-1]} numbers in a row"
    shape = declared_shape(facts, name)
    free = shape is not None and len(shape) == value.ndim and not isinstance(shape[-1], int)
    if free and ends_of(facts, name)[:1] in (("Tanh",), ("Clip",), ("ConvTranspose",), ("Conv",)):
        return f"{name!r} is of any length and ends in {ends_of(facts, name)[0]}"
    same = [key for key, given in float_inputs(feeds).items() if given.ndim in (2, 3) and given.shape == value.shape]
    if same and named_like(same[0], (*_SOUND, "noisy", "mix")):
        return f"{name!r} is as long as the sound in {same[0]!r}"
    return ""
