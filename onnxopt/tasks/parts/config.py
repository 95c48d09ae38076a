"""Tokens with which texts begin and end, as the configuration in a folder says."""

from collections.abc import Iterator
from pathlib import Path

from onnxopt.files import read_json

_FILES = ("generation_config.json", "config.json", "genai_config.json")


def first_token(folder: Path) -> int:
    """Return the token with which a decoder begins; 0 where no configuration says it."""
    wanted = ("decoder_start_token_id", "bos_token_id")
    return next((number for name in wanted for number in _numbers(folder, name)), 0)


def end_tokens(folder: Path) -> frozenset[int]:
    """Return the tokens that end a text; none where no configuration says it."""
    return frozenset(_numbers(folder, "eos_token_id"))


def _numbers(folder: Path, name: str) -> Iterator[int]:
    for file in _FILES:
        path = folder / file
        if not path.is_file():
            continue
        content = read_json(path)
        inner = content.get("model") if isinstance(content, dict) else None
        for place in (content, inner):
            value = place.get(name) if isinstance(place, dict) else None
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int):
                    yield number
