"""What a command has to say, free of how it is shown: tables, facts and sentences, with the same content as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column of a table; numbers stand to the right."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text; a cell may have a second line, such as an interval below its value."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair per line."""

    pairs: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Text:
    """Sentences, one per line."""

    lines: tuple[str, ...]


Block = Table | Facts | Text


@dataclass(frozen=True)
class Document:
    """The result of a command: `blocks` for people, `data` (JSON-ready) for programs."""

    blocks: tuple[Block, ...]
    data: Mapping[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from onnxopt.report.notebook import to_html

        return to_html(self)
