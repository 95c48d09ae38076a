"""The batches on which a model is timed at given lengths, each with its share of the runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.measure.generation.prompts import Prompts, keeps_tokens
from onnxopt.measure.latency import alternating, at_lengths
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import signature_of
from onnxopt.options.lengths import Shares, words_of
from onnxopt.samples import Feeds
from onnxopt.samples.sequences import at_length, sequence_axes


@dataclass(frozen=True)
class LengthBatches:
    """The batches on which a model is timed at given lengths.

    Attributes:
        alternating: those of a measurement, each length as often as its share.
        by_length: one batch of each length.
    """

    alternating: tuple[Feeds, ...]
    by_length: Mapping[int, Feeds]


def length_batches(
    model: ir.Model, drawn: Sequence[Feeds], typical: Feeds, shares: Shares, runtime: Runtime
) -> LengthBatches:
    """Return batches of the lengths that `shares` names.

    Sequences are cut, or go on from their start. Of a decoder with a cache the longest length is that of a prompt,
    read with an empty cache; a shorter one is a step of as many tokens, whose cache the model makes of a prompt.

    Args:
        model: the model.
        drawn: batches of the data.
        typical: one batch of median size.
        shares: the shares of the runs by length.
        runtime: configuration of ONNX Runtime.

    Raises:
        DataError: ONX203 a sequence is empty, ONX205 no sample has a token.
        UsageError: ONX112 the model has no axis of a sequence, or no length is that of a prompt.
        NativeError: ONX401 a decoder cannot read the prompt.
    """
    signature = signature_of(model)
    if keeps_tokens(signature):
        prompts = Prompts(model, drawn, max(shares), runtime)
        runs = alternating(prompts.batches, shares)
        return LengthBatches(runs, {length: prompts.batches(length, 1)[0] for length in shares})
    axes = sequence_axes(signature)
    by_length = {length: at_length(typical, axes, length) for length in shares}
    return LengthBatches(at_lengths(drawn, axes, shares), by_length)


def length_words(model: ir.Model, shares: Shares) -> str:
    """Return the lengths at which a model is timed, as a sentence."""
    if not keeps_tokens(signature_of(model)):
        return f"Sequences have the lengths {words_of(shares)}."
    prompt = max(shares)
    steps = {length: share for length, share in shares.items() if length != prompt}
    behind = f", steps behind it {words_of(steps)}" if steps else ""
    return f"A prompt with an empty cache has the length {words_of({prompt: shares[prompt]})}{behind}."
