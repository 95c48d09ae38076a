"""Tokenizers: a list of words with a regular expression, or a Hugging Face tokenizer.json."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from onnxopt.errors import DataError
from onnxopt.files import read_json
from onnxopt.samples.hugging_face import Padding, Tokens, open_hugging_face, refused

USUAL_PATTERN = r"\w+|[^\w\s]"
TOKENIZER = "tokenizer.json"
"""Name of the file in published folders."""


class Tokenizer(Protocol):
    """Converts a sentence to tokens."""

    @property
    def padding(self) -> Padding:
        """How a shorter sentence is filled up."""

    def tokens(self, sentence: str) -> Tokens:
        """Return the tokens of one sentence, not padded."""


@dataclass(frozen=True)
class Vocabulary:
    """A list of words; a regular expression splits a sentence into words.

    Args:
        ids: word -> id.
        pattern: matches one word.
        lower: whether sentences are converted to lower case first.
        max_length: most ids of a sentence, `[CLS]` included.
    """

    ids: Mapping[str, int]
    pattern: re.Pattern[str]
    lower: bool = True
    max_length: int | None = None

    @property
    def padding(self) -> Padding:
        """At the end, with `[PAD]`, or 0."""
        return Padding(self.ids.get("[PAD]", 0))

    def tokens(self, sentence: str) -> Tokens:
        """Return the tokens of one sentence, all of type 0."""
        ids = self.encode(sentence)
        return Tokens(ids, [0] * len(ids))

    def encode(self, sentence: str) -> list[int]:
        """Return `[CLS]`, if the vocabulary has it, and the ids of the words; unknown words are `[UNK]`."""
        unknown = self.ids.get("[UNK]", 1)
        words = self.pattern.findall(sentence.lower() if self.lower else sentence)
        start = [self.ids["[CLS]"]] if "[CLS]" in self.ids else []
        return (start + [self.ids.get(word, unknown) for word in words])[: self.max_length]


_CUT = """
import json, re, sys
pattern, sentences = json.load(sys.stdin)
pattern = re.compile(pattern)
for sentence in sentences:
    pattern.findall(sentence)
"""
PATIENCE_S = 20.0
"""Time for a vocabulary's own regular expression on all sentences; a million words take about one second."""


def refuse_hanging(tokenizer: Tokenizer, sentences: Sequence[str], where: Path) -> None:
    """Run a vocabulary's regular expression on the sentences in a child process, which can be ended if it hangs.

    Raises:
        DataError: ONX201 it exceeds the time limit.
    """
    if not isinstance(tokenizer, Vocabulary) or tokenizer.pattern.pattern == USUAL_PATTERN:
        return
    lowered = [sentence.lower() if tokenizer.lower else sentence for sentence in sentences]
    task = json.dumps([tokenizer.pattern.pattern, lowered])
    limit = PATIENCE_S + sum(map(len, lowered)) / 1e6
    try:
        subprocess.run([sys.executable, "-I", "-c", _CUT], input=task, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            "ONX201",
            "the vocabulary's regular expression takes too long",
            where=str(where),
            why=f"{tokenizer.pattern.pattern[:80]!r} was not through with {len(sentences)} sentences in {limit:.0f} s",
            hint="Repetitions inside repetitions can take exponential time: write it without.",
        ) from error


def open_vocab(path: Path, length: int | None = None) -> Tokenizer:
    """Read a tokenizer.json, or a JSON object with `vocab` (a list of words), `regex`, `lower` and `max_len`.

    Args:
        path: the path of the file.
        length: most tokens of a sentence; with a tokenizer.json, the closing token is kept.

    Raises:
        DataError: ONX201 the file is missing or has another form.
        UsageError: ONX108 the package `tokenizers` is not installed.
    """
    with refused(path):
        content = read_json(path)
        if isinstance(content.get("model"), dict):
            return open_hugging_face(path, content["model"], length)
        ids = {str(word): i for i, word in enumerate(content["vocab"])}
        limit = content.get("max_len")
        pattern = re.compile(content.get("regex", USUAL_PATTERN))
        return Vocabulary(ids, pattern, bool(content.get("lower", True)), None if limit is None else int(limit))
