"""Sentences as samples of a model of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt.errors import UsageError
from onnxopt.model_file import Signature
from onnxopt.samples.tokenizer import Tokenizer, open_vocab, refuse_hanging


def _roles(signature: Signature) -> dict[str, str]:
    roles = {}
    for spec in signature.inputs:
        name = spec.name.lower()
        words = (("mask", "mask"), ("segment", "types"), ("type", "types"), ("position", "positions"), ("id", "ids"))
        role = next((role for word, role in words if word in name), None)
        roles[spec.name] = role or ("ids" if len(signature.inputs) == 1 else "unknown")
    return roles


def takes_tokens(signature: Signature) -> bool:
    """Return whether every input is an output of a tokenizer: ids, mask, token types or positions."""
    whole_numbers = all(spec.dtype in ("int32", "int64") for spec in signature.inputs)
    roles = list(_roles(signature).values())
    return whole_numbers and roles.count("ids") == 1 and "unknown" not in roles


def takes_text(signature: Signature) -> bool:
    """Return whether lines of text are samples: a model of tokens, or one whose only input is text."""
    return takes_tokens(signature) or [spec.dtype for spec in signature.inputs] == ["str"]


def named_as_state(name: str) -> bool:
    """Return whether an input has the name of a cache or a state, which a text does not fill."""
    return any(word in name.lower() for word in ("past", "cache", "state"))


def from_encoder(name: str) -> bool:
    """Return whether an input has the name of an encoder's output, or of keys and values that are made of one."""
    return any(word in name.lower() for word in ("encoder", "cross"))


def open_text(
    name: str, sentences: Sequence[str], labels: np.ndarray | None, signature: Signature, vocab: str | Path | None
) -> "TextSource":
    """Return sentences as samples, each in its length unless the model fixes the sequence length.

    Raises:
        DataError: ONX201 the vocabulary cannot be read.
        UsageError: ONX108 a package is missing, ONX113 no vocabulary was given.
    """
    if vocab is None:
        hint = (
            "Give the JSON file of the tokenizer with --vocab: tokenizer.json of Hugging Face, or one of your own, as "
            "docs/data.md shows."
        )
        raise UsageError("ONX113", "text needs a vocabulary", where=name, hint=hint)
    dims = [spec.shape[1] for spec in signature.inputs if spec.shape is not None and len(spec.shape) == 2]
    length = next((dim for dim in dims if isinstance(dim, int)), None)
    tokenizer = open_vocab(Path(vocab), length)
    refuse_hanging(tokenizer, sentences, Path(vocab))
    return TextSource(name, sentences, labels, tokenizer, _roles(signature), length)


@dataclass(frozen=True, eq=False)
class TextSource:
    """Sentences, tokenized one by one as they are read.

    Args:
        roles: role of each model input: ids, mask, types or positions.
        length: tokens to which every sentence is cut or padded; None keeps its own length.
    """

    name: str
    sentences: Sequence[str]
    labels: np.ndarray | None
    tokenizer: Tokenizer
    roles: Mapping[str, str]
    length: int | None
    stacks = True

    def __len__(self) -> int:
        return len(self.sentences)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return the tokens of one sentence, each array of shape (length,)."""
        tokens, padding = self.tokenizer.tokens(self.sentences[index]), self.tokenizer.padding
        ids, types = tokens.ids[: self.length], tokens.types[: self.length]
        fill = 0 if self.length is None else self.length - len(ids)
        before, behind = (fill, 0) if padding.left else (0, fill)
        ends = ((before, behind),)
        arrays = {
            "ids": np.pad(np.array(ids, np.int64), ends, constant_values=padding.id),
            "mask": np.pad(np.ones(len(ids), np.int64), ends),
            "types": np.pad(np.array(types, np.int64), ends, constant_values=padding.type),
            "positions": np.maximum(np.arange(len(ids) + fill) - before, 0),
        }
        return {name: arrays[role] for name, role in self.roles.items()}


SINGLE = 3
"""Tokens that a decoder reads one at a time of each text, where no window is named."""


@dataclass(frozen=True)
class Span:
    """Tokens of a text that are read in one step.

    Attributes:
        start: the first of them.
        end: the one behind the last.
        kept: whether the step is a sample; others only fill the cache.
    """

    start: int
    end: int
    kept: bool = True


def windows_of(tokens: int, window: int, *, whole: bool) -> tuple[Span, ...]:
    """Return consecutive windows of a text; the rest that fills none is left out.

    Args:
        tokens: of the text.
        window: tokens per step.
        whole: whether a text shorter than one window is left out too.
    """
    ends = range(window, tokens + 1, window) or ([tokens] if tokens and not whole else [])
    return tuple(Span(max(end - window, 0), end) for end in ends)


def prompt_and_steps(tokens: int) -> tuple[Span, ...]:
    """Return the first half of a text as one step, and `SINGLE` single tokens evenly spread over the rest."""
    half = max(tokens // 2, 1)
    found = [Span(0, half)] if tokens else []
    for place in sorted({half + i * (tokens - half) // SINGLE for i in range(SINGLE)}):
        if place >= tokens:
            break
        if place > found[-1].end:
            found.append(Span(found[-1].end, place, kept=False))
        found.append(Span(place, place + 1))
    return tuple(found)


def tokens_in(feeds: Mapping[str, np.ndarray], roles: Mapping[str, str]) -> int:
    """Return the number of tokens of a tokenized sentence, whose arrays have the shape (1, tokens)."""
    return next(int(array.shape[1]) for name, array in feeds.items() if roles[name] == "ids")


def part_of(
    feeds: Mapping[str, np.ndarray], roles: Mapping[str, str], span: Span, *, grows: bool
) -> dict[str, np.ndarray]:
    """Return the inputs of one step of a tokenized sentence, for a model that keeps earlier tokens in its state.

    Args:
        feeds: arrays of shape (1, tokens).
        roles: model input -> its role, see `Text`.
        span: the tokens of the step.
        grows: whether a mask covers earlier tokens too.
    """
    begins = {name: 0 if grows and roles[name] == "mask" else span.start for name in feeds}
    return {name: array[:, begins[name] : span.end] for name, array in feeds.items()}
