"""Texts that a folder reads: samples of its encoder with the baseline's answers, or texts of a decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt.errors import DataError
from onnxopt.measure.accuracy import Evaluation, evaluation_of
from onnxopt.measure.generation.chain import Begin, Chain, TextStart, greedy
from onnxopt.measure.generation.perplexity import shares_of
from onnxopt.measure.generation.speed import Length
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.tokens import TokenAgreement
from onnxopt.measure.tasks.tokens.scores import divergence
from onnxopt.samples import Feeds, Samples
from onnxopt.tasks.parts.config import end_tokens, first_token
from onnxopt.tasks.parts.roles import FolderParts

AGREEMENT = TokenAgreement("logits")


@dataclass(frozen=True)
class ReadText:
    """A text.

    Attributes:
        start: how it begins.
        tokens: all of it, those of the start included.
    """

    start: TextStart
    tokens: np.ndarray


def texts_of(parts: FolderParts, samples: Samples, folder: Path, length: Length, runtime: Runtime) -> list[ReadText]:
    """Return each sample as a text; behind an encoder it is the baseline's own answer of at most `length.new` tokens.

    Raises:
        DataError: ONX205 no text has two tokens.
    """
    found = list[ReadText]()
    begin = parts.chain.load(runtime)
    first, end = np.array([first_token(folder)]), end_tokens(folder)
    for feeds in samples.with_batch_size(1):
        if parts.encoder is None:
            tokens = tokens_of(parts, feeds)[: length.prompt + length.new]
            prompt = tokens[: max(min(length.prompt, len(tokens) // 2), 1)]
            found.append(ReadText(TextStart({}, prompt), tokens))
            continue
        start = TextStart({name: np.asarray(array) for name, array in feeds.items()}, first)
        walk, given = begin(start)
        found.append(ReadText(start, greedy(walk, given, length.new, end)))
    usable = [one for one in found if len(one.tokens) > 1]
    if not usable:
        raise DataError("ONX205", "no text has two tokens", where=samples.name, hint="Give longer texts.")
    return usable


def tokens_of(parts: FolderParts, feeds: Feeds) -> np.ndarray:
    """Return the tokens of one text, without padding."""
    step = parts.chain.first[1]
    ids = np.asarray(feeds[step.tokens])[0]
    return np.asarray(ids[np.asarray(feeds[step.mask])[0] != 0]) if step.mask else ids


def score_chain(
    baseline: Chain, other: Chain, texts: Sequence[ReadText], length: Length, runtime: Runtime
) -> Evaluation:
    """Return the share of the baseline's probability that a chain keeps per token; all of it for the baseline itself.

    Both read the same texts through their own caches, so that errors of a cache add up as they do for a user.
    """
    expected = baseline.load(runtime)
    return score_readers(expected, expected if other is baseline else other.load(runtime), texts, length)


def score_readers(expected: Begin, found: Begin, texts: Sequence[ReadText], length: Length) -> Evaluation:
    """Return the share of the probability that is kept per token, by how each of two readers begins a text."""
    rows, broken = [], 0
    for text in texts:
        own = Length(len(text.start.tokens), length.new)
        before, after = (shares_of(begin(text.start)[0], text.tokens, own) for begin in (expected, found))
        undefined = np.isnan(after).any(axis=1)
        broken += bool(undefined.any())
        same = (after.argmax(axis=1) == before.argmax(axis=1)) & ~undefined
        rows.append(AGREEMENT.row(divergence(before, after), same))
    return evaluation_of(AGREEMENT, np.array(rows), broken)
