"""Parts of a result that is shown to people: tables, facts and sentences.

Names come from models and files of anybody, so they hold no control characters.
"""

from dataclasses import dataclass

from onnxopt.printable import printable


@dataclass(frozen=True)
class Column:
    """One column of a table; numbers stand to the right."""

    title: str
    number: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", printable(self.title))


@dataclass(frozen=True)
class Table:
    """Rows of text; a cell may have a second line, such as an interval below its value."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(tuple(map(printable, row)) for row in self.rows))
        object.__setattr__(self, "title", printable(self.title))


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair per line."""

    pairs: tuple[tuple[str, str], ...]
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple((printable(name), printable(value)) for name, value in self.pairs))
        object.__setattr__(self, "title", printable(self.title))


@dataclass(frozen=True)
class Text:
    """Sentences, one per line."""

    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(map(printable, self.lines)))


Block = Table | Facts | Text
