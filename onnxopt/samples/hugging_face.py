"""A Hugging Face tokenizer.json, run by the package `tokenizers`, with the settings in the file beside it."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxopt.errors import DataError, OnnxoptError, first_line
from onnxopt.extras import READING, require
from onnxopt.files import read_json

_CONFIG = "tokenizer_config.json"
"""Name of the file beside a tokenizer.json that has the settings of transformers and transformers.js."""
_PAD_TOKENS = ("[PAD]", "<pad>")
"""Names of the token for padding, where no file states one."""
_NO_LIMIT = 10**9
"""A `model_max_length` above this says that there is none; transformers writes 1e30."""


@dataclass(frozen=True)
class Tokens:
    """One sentence.

    Attributes:
        ids: number of each token.
        types: token type (segment) of each.
    """

    ids: list[int]
    types: list[int]


@dataclass(frozen=True)
class Padding:
    """How a sentence is filled up to a length.

    Attributes:
        id: token id that fills.
        type: token type that fills.
        left: whether the filling precedes the sentence.
    """

    id: int
    type: int = 0
    left: bool = False


@dataclass(frozen=True)
class HuggingFace:
    """A tokenizer.json; `where` is its path."""

    tokenizer: Any
    padding: Padding
    where: Path

    def tokens(self, sentence: str) -> Tokens:
        """Return the tokens of one sentence.

        Raises:
            DataError: ONX201 the file asks for the impossible, such as a token that it does not have, or the sentence
                is no Unicode text.
        """
        _check_text(sentence, self.where)
        with refused(self.where), _native_messages_hidden():
            encoding = self.tokenizer.encode(sentence)
            return Tokens(list(encoding.ids), list(encoding.type_ids))


def _check_text(sentence: str, where: Path) -> None:
    try:
        sentence.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "ONX201",
            "a text that cannot be tokenized",
            where=str(where),
            why=f"{sentence[:40]!r} has half of a surrogate pair, which is no character",
            hint="Write the text as UTF-8, or remove the character.",
        ) from error


def open_hugging_face(path: Path, model: Mapping[str, Any], length: int | None) -> HuggingFace:
    """Read a tokenizer.json and the tokenizer_config.json beside it, if there is one.

    Args:
        path: of tokenizer.json.
        model: its object `model`.
        length: most tokens of a sentence; None for the limit that the files state, if any.

    Raises:
        DataError: ONX201 one sentence has other tokens at each call, or the settings cannot be read.
        UsageError: ONX108 the package `tokenizers` is not installed.
    """
    _check_repeatable(path, model)
    module = require("tokenizers", "text", READING)
    with _native_messages_hidden():
        tokenizer = module.Tokenizer.from_file(str(path))
    settings = _settings(path.with_name(_CONFIG))
    padding = _padding(tokenizer, settings)
    tokenizer.no_padding()
    cut = tokenizer.truncation or {}
    limit = length or (None if cut else _longest(settings))
    if limit is not None:
        tokenizer.enable_truncation(limit, direction=cut.get("direction", "right"))
    return HuggingFace(tokenizer, padding, path)


def _check_repeatable(path: Path, model: Mapping[str, Any]) -> None:
    if model.get("dropout"):
        raise DataError(
            "ONX201",
            "a tokenizer that draws random numbers",
            where=str(path),
            why=f"its dropout of {model['dropout']} leaves out merges, so one text has other tokens each time",
            hint="Set `dropout` of its model to null, as at inference.",
        )


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with refused(path):
        return dict(read_json(path))


def _padding(tokenizer: Any, settings: Mapping[str, Any]) -> Padding:
    """Return the padding of both files; as in transformers, the settings take precedence."""
    own = tokenizer.padding or {}
    stated = settings.get("pad_token")
    name = stated.get("content") if isinstance(stated, dict) else stated
    names = [name] if name else [] if own else _PAD_TOKENS
    found = next((number for one in names if (number := tokenizer.token_to_id(one)) is not None), own.get("pad_id", 0))
    side = settings.get("padding_side") or own.get("direction", "right")
    return Padding(int(found), int(own.get("pad_type_id", 0)), side == "left")


def _longest(settings: Mapping[str, Any]) -> int | None:
    """Return the most tokens of a sentence that the settings state, or None."""
    longest = settings.get("model_max_length")
    return int(longest) if longest and longest < _NO_LIMIT else None


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Raise ONX201 for any fault of a vocabulary of any form inside; a panic of native code is no Exception."""
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
