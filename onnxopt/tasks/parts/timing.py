"""The texts on which a folder is timed, and the weights of their prompts and of the tokens behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.errors import NativeError, UsageError
from onnxopt.measure.generation.chain import Chain, TextStart
from onnxopt.measure.generation.prompts import refuse_single, too_long
from onnxopt.measure.generation.speed import GenerationSpeed, Length, measure_speed
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.lengths import Shares, lengths_of
from onnxopt.samples.sequences import at_length, sequence_axes
from onnxopt.tasks.parts.roles import FolderParts
from onnxopt.tasks.parts.texts import ReadText

_MOST = 32
"""Most texts for timing."""


@dataclass(frozen=True)
class PartsTiming:
    """How a folder is timed.

    Attributes:
        starts: beginnings of texts.
        length: tokens of a text.
        prompts: weight of a prompt in the time; that of a whole text has one.
        steps: weight of a token behind the prompt; a whole text has all but the first of its new ones.
        runtime: configuration of ONNX Runtime.
        seed: of the order of models.
    """

    starts: Sequence[TextStart]
    length: Length
    prompts: float
    steps: float
    runtime: Runtime
    seed: int

    def measure(self, chains: Mapping[str, Chain], seconds: float) -> dict[str, GenerationSpeed]:
        """Return the speed of folders while they generate in turn; the first is the baseline."""
        weights = self.prompts, self.steps / max(self.length.new - 1, 1)
        return measure_speed(
            chains, self.starts, self.length, self.runtime, seconds=seconds, seed=self.seed, weights=weights
        )

    def ms(self, speed: GenerationSpeed) -> float:
        """Return the weighted time of prompt and steps."""
        return self.prompts * speed.first_token_ms + self.steps * 1000 / speed.tokens_per_s


def prompt_and_steps(sequence: str) -> tuple[int, float, float]:
    """Return the length of the prompt, its share of the runs, and that of single tokens.

    Raises:
        UsageError: ONX101 the text cannot be read, ONX112 it has another length, or no prompt.
    """
    shares: Shares = lengths_of(sequence)
    prompt = max(shares)
    refuse_single(prompt)
    other = [length for length in shares if length not in (prompt, 1)]
    if other:
        why = f"the parts generate texts: a prompt is read at once, here {prompt}, and what follows token by token"
        hint = f"Leave {', '.join(map(str, other))} out, such as 128:0.3,1:0.7."
        raise UsageError("ONX112", "a folder is timed at one prompt and at 1", where=sequence, why=why, hint=hint)
    return prompt, shares[prompt], shares.get(1, 0.0)


def timing_of(
    parts: FolderParts, texts: Sequence[ReadText], length: Length, sequence: str | None, *, runtime: Runtime, seed: int
) -> PartsTiming:
    """Return how a folder is timed: on the beginnings of the texts, or on prompts of the length that is given.

    Args:
        parts: the folder.
        texts: texts of the search.
        length: of the texts.
        sequence: the length of the prompt with its share of the runs, and that of single tokens; None for whole texts.
        runtime: configuration of ONNX Runtime.
        seed: of the order of models.

    Raises:
        DataError: ONX203 an input of the encoder is empty.
        UsageError: ONX112 the encoder takes no sequence of another length.
        NativeError: ONX401 the folder cannot read a prompt of this length.
    """
    starts = [one.start for one in texts]
    if sequence is None:
        return PartsTiming(starts, length, 1.0, float(length.new - 1), runtime, seed)
    prompt, prompts, steps = prompt_and_steps(sequence)
    starts = _of_length(parts, texts[:_MOST], prompt)
    walk, tokens = parts.chain.load(runtime)(starts[0])
    try:
        walk.feed(tokens)
    except NativeError as error:
        raise too_long(prompt, error) from error
    return PartsTiming(starts, length, prompts, steps, runtime, seed)


def _of_length(parts: FolderParts, texts: Sequence[ReadText], prompt: int) -> list[TextStart]:
    """Return prompts: behind an encoder its inputs have the length; a decoder's tokens go on with the next text."""
    if parts.encoder is not None:
        axes = sequence_axes(parts.inputs)
        return [TextStart(at_length(one.start.given, axes, prompt), one.start.tokens) for one in texts]
    stream = np.concatenate([one.tokens for one in texts])
    begins = np.cumsum([0, *(len(one.tokens) for one in texts[:-1])])
    return [TextStart({}, stream[(begin + np.arange(prompt)) % len(stream)]) for begin in begins]
