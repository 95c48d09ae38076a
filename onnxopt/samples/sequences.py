"""Batches at other lengths of their sequences: cut, or repeated from the start."""

from collections.abc import Mapping

import numpy as np

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature
from onnxopt.samples.core import Feeds

_WORDS = ("seq", "len", "time", "token", "step")
_UNNAMED = "unk__"
"""Beginning of the names that tf2onnx gives to unknown sizes, another one to each."""

Axes = Mapping[str, tuple[int, ...]]
"""The axes of a sequence, by input."""


def sequence_axes(signature: Signature) -> Axes:
    """Return the axes of the inputs along which a sequence extends: dynamic ones behind the first, of one name.

    The name is the one that reads like a sequence, or the only one. Sizes without a name count as one. Of a decoder
    behind an encoder it is that of the decoder's own inputs: those with `encoder` in their name are whole.

    Raises:
        UsageError: ONX112 no axis, or more than one, may be that of a sequence.
    """
    named = dict[str, dict[str, tuple[int, ...]]]()
    for spec in signature.inputs:
        for axis, size in enumerate(spec.shape or ()):
            if axis and not isinstance(size, int):
                name = "" if size is None or size.startswith(_UNNAMED) else size
                by_input = named.setdefault(name, {})
                by_input[spec.name] = (*by_input.get(spec.name, ()), axis)
    likely = [name for name in named if any(word in name.lower() for word in _WORDS)] or list(named)
    likely = [name for name in likely if not all("encoder" in one.lower() for one in named[name])] or likely
    if len(likely) == 1 and not (likely == [""] and any(len(axes) > 1 for axes in named[""].values())):
        return named[likely[0]]
    several = ", ".join(name or "those without a name" for name in likely)
    why = f"it may be any of {several}" if likely else "all sizes behind the first are fixed"
    hint = (
        "Leave the lengths out, and the model is timed at those of the data; or export it with one dynamic axis. A "
        "cache of earlier tokens is known by the names of its inputs and outputs, such as past_key_values.0.key and "
        "present.0.key."
    )
    raise UsageError("ONX112", "the axis of the sequence is not known", where=str(signature), why=why, hint=hint)


def at_length(feeds: Feeds, axes: Axes, length: int) -> dict[str, np.ndarray]:
    """Return a batch whose sequences have `length` steps: its first ones, and where it has fewer, again.

    Raises:
        DataError: ONX203 a sequence is empty.
    """
    made = dict(feeds)
    for name, some in axes.items():
        for axis in some:
            array = np.asarray(made[name])
            if not array.shape[axis]:
                hint = "Give samples that have steps in every sequence, or leave the lengths out."
                raise DataError("ONX203", f"an empty sequence has no {length} steps", where=name, hint=hint)
            made[name] = np.take(array, np.arange(length) % array.shape[axis], axis=axis)
    return made
