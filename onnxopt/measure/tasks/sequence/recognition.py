"""Recognition of sequences by evidence."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, are_probabilities, chosen, is_float
from onnxopt.measure.tasks.evidence import declared_shape, ends_of, float_inputs, only_output, token_inputs
from onnxopt.measure.tasks.sequence.agreement import StepAgreement, TextAgreement
from onnxopt.measure.tasks.sequence.decoding import DICTIONARY, Decoding, characters_of
from onnxopt.measure.tasks.sequence.evidence import BLANK_SHARE, batch_axis_of, blank_of, steps_output
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.measure.tasks.tokens.masks import mask_of
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

_FEWEST_CTC_CLASSES = 10


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return a sequence where an output holds scores of classes for every step; else None."""
    for name, value in outputs.items():
        if is_float(value) and value.ndim == 3 and min(value.shape) > 0 and not _beside_boxes(name, outputs):
            found = _found(name, value, feeds, facts, options)
            if found is not None:
                return found
    return None


def comparison(
    outputs: Outputs, names: Sequence[str], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> StepAgreement | TextAgreement:
    """Return the comparison of two sequence models, requested by the user.

    Raises:
        DataError: ONX209 no output holds scores of steps.
        FileError: ONX501, ONX505 the file of characters cannot be read.
    """
    feeds = feeds or {}
    if any(is_float(outputs.get(name)) and np.ndim(outputs[name]) == 3 for name in names or outputs):
        name = only_output(outputs, names, lambda v: is_float(v) and v.ndim == 3, "scores of steps")
    else:
        name = names[0] if names else steps_output(outputs)
    value = np.asarray(chosen(outputs, name))
    axis = batch_axis_of(value.shape, _size(feeds), declared_shape(facts, name))
    steps = Decoding(axis).steps(value)
    tagged = any(array.shape == steps.shape for array in token_inputs(feeds).values())
    if options.blank is None and (value.ndim == 2 or (tagged and DICTIONARY not in facts.metadata)):
        return StepAgreement(name, Decoding(axis), mask_of(feeds, steps.shape, options.mask))
    blank = 0 if options.blank is None and DICTIONARY in facts.metadata else None
    if blank is None:
        # Steps come first in models trained with CTC loss; in a tagger the batch comes first.
        blank = blank_of(options.blank, steps, int(value.shape[-1]), 0.0 if axis == 1 else BLANK_SHARE)
    characters = characters_of(options.characters, facts.metadata.get(DICTIONARY, ""))
    if blank is None:
        return StepAgreement(name, Decoding(axis, None, characters), mask_of(feeds, steps.shape, options.mask))
    return TextAgreement(name, Decoding(axis, blank, characters))


def _found(name: str, value: Array, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    axis = batch_axis_of(value.shape, _size(feeds), declared_shape(facts, name))
    if value.shape[axis] != _size(feeds):
        return None
    steps = Decoding(axis).steps(value)
    if value.shape[-1] < 2 or steps.shape[1] < 2:
        return None
    reason = _reason(name, value, axis, feeds=feeds, facts=facts, options=options)
    if not reason:
        return None
    compared = comparison({name: value}, (name,), facts, options, feeds)
    return Recognized("sequence", (name,), compared, reason)


def _reason(name: str, value: Array, axis: int, *, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> str:
    """Return the evidence that the output holds scores of classes for every step; empty without any."""
    steps, classes = Decoding(axis).steps(value), value.shape[-1]
    if DICTIONARY in facts.metadata:
        return f"the file holds the characters of {name!r}"
    tokens = [array for array in token_inputs(feeds).values() if array.shape == steps.shape]
    if tokens:
        # A language model has a class for every input token; a tagger has other and fewer classes.
        tags = classes <= max(int(array.max()) for array in tokens)
        return f"{name!r} gives each of the input's tokens one of {classes} classes" if tags else ""
    if steps.shape[1] > _longest(feeds) or value.shape in {array.shape for array in float_inputs(feeds).values()}:
        return ""
    if axis == 1 and (_size(feeds) > 1 or _probabilities(value)):
        return f"{name!r} is time-major: {steps.shape[1]} steps first, then the samples"
    if _probabilities(value) or ends_of(facts, name)[:1] in (("Softmax",), ("LogSoftmax",)):
        return f"{name!r} holds probabilities of {classes} classes for each of {steps.shape[1]} steps"
    blank = blank_of(None, steps, classes) if options.blank is None else options.blank
    if blank is not None and classes >= _FEWEST_CTC_CLASSES:
        return f"most steps of {name!r} are blank: class {blank} of {classes}"
    return ""


def _size(feeds: Feeds) -> int:
    return next((len(value) for value in feeds.values() if np.ndim(value)), 1)


def _longest(feeds: Feeds) -> int:
    """Return the longest input axis beside the batch: a text is not longer than its image or sound."""
    return max((max(np.shape(value)[1:], default=0) for value in feeds.values()), default=0)


def _probabilities(value: Array) -> bool:
    """Return whether the rows are probabilities or their logarithms."""
    if not np.isfinite(value).any():
        return False
    return are_probabilities(value if value.min() >= 0 else np.exp(np.minimum(value, 0.0)) * (value.max() <= 1e-3))


def _beside_boxes(name: str, outputs: Outputs) -> bool:
    """Return whether another output has four numbers per row of classes, as in a detector."""
    shape = np.shape(outputs[name])
    return any(
        other != name and np.ndim(value) >= 3 and np.shape(value)[:2] == shape[:2] and np.shape(value)[2:3] == (4,)
        for other, value in outputs.items()
    )
