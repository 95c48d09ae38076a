"""A configuration file for one model: every option of `optimize` with its meaning, and the expected data."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxopt import model_file
from onnxopt.model_file import signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.samples import schema_text

WIDTH = 100


@dataclass(frozen=True)
class ConfigOption:
    """One option of a command: its long name, its help text, and its default as TOML; None for no default."""

    name: str
    about: str
    default: str | None


def config_text(model: Path, options: Sequence[ConfigOption], data: str | None, max_drop: str | None) -> str:
    """Return TOML in which all options except `data` and `max-drop` are comments.

    Args:
        model: file of the model; a comment describes the data that it expects.
        options: options of `optimize`.
        data: path or name of the samples; None leaves a place to fill in.
        max_drop: the budget; None for one percentage point.
    """
    signature = signature_of(model_file.load(model))
    lines = [
        *_comment(f"Options of onnxopt for {model}. Use it with:"),
        *_comment(f"  onnxopt optimize {model} --config THIS-FILE"),
        "# The command line overrides this file.",
        "#",
        *(f"# {line}".rstrip() for line in _plain(schema_text(signature)).splitlines()),
        "",
        "[optimize]",
    ]
    chosen = {"data": data, "max-drop": max_drop or "1pp"}
    for option in options:
        lines += ["", *_comment(option.about)]
        if chosen.get(option.name) is not None:
            lines.append(f"{option.name} = {json.dumps(chosen[option.name], ensure_ascii=False)}")
        else:
            lines.append(f"# {option.name} = {option.default if option.default is not None else '...'}")
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str, *, overwrite: bool, source: Path, data: str | None) -> None:
    """Write the file.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written, ONX504 it is the model or the samples.
    """
    refuse_output_file(path, overwrite=overwrite, source=source, read=[data], kind=".toml")
    model_file.atomic_write_text(path, text, overwrite=overwrite)


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in textwrap.wrap(_plain(text), WIDTH - 2, drop_whitespace=False)]


def _plain(text: str) -> str:
    """Return text without characters that TOML forbids in comments; names in a model may have any."""
    return "".join(c if c in "\n\t" or c.isprintable() else "?" for c in text)
