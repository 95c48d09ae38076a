"""Sentences as samples of a model of tokens."""

from collections.abc import Iterator, Mapping, Sequence
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


def open_text(
    name: str, sentences: Sequence[str], labels: np.ndarray | None, signature: Signature, vocab: str | Path | None
) -> "TextSource":
    """Return sentences as samples, each in its length unless the model fixes the sequence length.

    Raises:
        DataError: ONX201 the vocabulary cannot be read.
        UsageError: ONX108 a package is missing, ONX113 no vocabulary was given.
    """
    if vocab is None:
        raise UsageError("ONX113", "text needs a vocabulary", where=name, hint="Name its JSON file (option `vocab`).")
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
        ids = self.tokenizer.encode(self.sentences[index])[: self.length]
        fill = 0 if self.length is None else self.length - len(ids)
        arrays = {
            "ids": np.array(ids + [self.tokenizer.pad_id] * fill, np.int64),
            "mask": np.array([1] * len(ids) + [0] * fill, np.int64),
            "types": np.zeros(len(ids) + fill, np.int64),
            "positions": np.arange(len(ids) + fill),
        }
        return {name: arrays[role] for name, role in self.roles.items()}


def token_windows(
    feeds: Mapping[str, np.ndarray], roles: Mapping[str, str], window: int, *, whole: bool, grows: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Yield consecutive windows of a tokenized sentence, for a model that keeps earlier tokens in its state.

    Args:
        feeds: arrays of shape (1, tokens).
        roles: model input -> its role, see `Text`.
        window: tokens per step; the rest that fills none is left out.
        whole: whether a sentence shorter than one window is left out too.
        grows: whether a mask covers earlier tokens too.
    """
    tokens = next(array.shape[1] for name, array in feeds.items() if roles[name] == "ids")
    ends = range(window, tokens + 1, window) or ([tokens] if tokens and not whole else [])
    for end in ends:
        start = max(end - window, 0)
        yield {name: array[:, 0 if grows and roles[name] == "mask" else start : end] for name, array in feeds.items()}
