"""Tokenizers: a list of words with a regular expression, or a Hugging Face tokenizer.json."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from onnxopt.errors import DataError, OnnxoptError, first_line
from onnxopt.extras import READING, require
from onnxopt.files import read_json

USUAL_PATTERN = r"\w+|[^\w\s]"
TOKENIZER = "tokenizer.json"
"""Name of the file in published folders."""


class Tokenizer(Protocol):
    """Converts a sentence to token ids."""

    @property
    def pad_id(self) -> int:
        """The id of padding."""

    def encode(self, sentence: str) -> list[int]:
        """Return the ids of one sentence, not padded."""


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
    def pad_id(self) -> int:
        """The id of `[PAD]`, or 0."""
        return self.ids.get("[PAD]", 0)

    def encode(self, sentence: str) -> list[int]:
        """Return `[CLS]`, if the vocabulary has it, and the ids of the words; unknown words are `[UNK]`."""
        unknown = self.ids.get("[UNK]", 1)
        words = self.pattern.findall(sentence.lower() if self.lower else sentence)
        start = [self.ids["[CLS]"]] if "[CLS]" in self.ids else []
        return (start + [self.ids.get(word, unknown) for word in words])[: self.max_length]


@dataclass(frozen=True)
class HuggingFace:
    """A tokenizer.json, run by the package `tokenizers`; `where` is its path."""

    tokenizer: Any
    pad_id: int
    where: Path

    def encode(self, sentence: str) -> list[int]:
        """Return the ids of one sentence.

        Raises:
            DataError: ONX201 the file asks for the impossible, such as a token that it does not have.
        """
        with _refused(self.where), _native_messages_hidden():
            return list(self.tokenizer.encode(sentence).ids)


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
    with _refused(path):
        content = read_json(path)
        if isinstance(content.get("model"), dict):
            module = require("tokenizers", "text", READING)
            with _native_messages_hidden():
                tokenizer = module.Tokenizer.from_file(str(path))
            padding = content.get("padding") or {}
            tokenizer.no_padding()
            if length is not None:
                tokenizer.enable_truncation(length)
            return HuggingFace(tokenizer, int(padding.get("pad_id", 0)), path)
        ids = {str(word): i for i, word in enumerate(content["vocab"])}
        limit = content.get("max_len")
        pattern = re.compile(content.get("regex", USUAL_PATTERN))
        return Vocabulary(ids, pattern, bool(content.get("lower", True)), None if limit is None else int(limit))


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Raise ONX201 for what goes wrong inside with a vocabulary of any form; a panic of native code is no Exception."""
    try:
        yield
    except (OnnxoptError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise DataError(
            "ONX201",
            "not a readable vocabulary",
            where=str(path),
            why=first_line(error),
            hint='Give a tokenizer.json, or {"vocab": ["[PAD]", "[UNK]", "[CLS]", ...], "regex": "...", "max_len": 9}.',
        ) from error


_HIDING = threading.Lock()


@contextmanager
def _native_messages_hidden() -> Iterator[None]:
    """Keep file descriptor 2 from what native code prints before it raises: the error says it."""
    with _HIDING:
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)
