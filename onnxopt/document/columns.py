"""Column widths and line breaks of tables, for a terminal of any width."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from onnxopt.document.parts import Column, Table

LONGEST = 24
"""Characters without a place to break at that are kept together; longer names are cut where the line ends."""

_PIECE = re.compile(r"[^\s\-/_,{}]*[\-/_,{}]*\s*")


@dataclass(frozen=True)
class Line:
    """One line of the terminal for one row; `second` marks cells that are past the first line of their text."""

    cells: tuple[str, ...]
    second: tuple[bool, ...]


def widths(table: Table, room: int, gap: int) -> tuple[int, ...] | None:
    """Return the width of every column, or None when they do not fit into `room` characters in any way.

    Numbers are never broken, words only where a space, a hyphen or a slash is; the widest columns give way first.
    """
    texts = [[column.title, *(row[i] for row in table.rows)] for i, column in enumerate(table.columns)]
    least = [_least(column, cells) for column, cells in zip(table.columns, texts, strict=True)]
    wanted = [max(cell_len(line) for text in cells for line in text.split("\n")) for cells in texts]
    room -= gap * (len(wanted) - 1)
    while sum(wanted) > room:
        slack = [i for i in range(len(wanted)) if wanted[i] > least[i]]
        if not slack:
            return None
        wanted[max(slack, key=lambda i: wanted[i])] -= 1
    return tuple(wanted)


def _least(column: Column, cells: Sequence[str]) -> int:
    title, *values = cells
    pieces = list(_pieces(title))
    for value in values:
        pieces += value.split("\n") if column.number else _pieces(value)
    return max(cell_len(piece.rstrip()) for piece in pieces) if pieces else 0


def _pieces(text: str) -> Iterator[str]:
    """Return the parts that are kept together."""
    for piece in _PIECE.findall(text.replace("\n", " ")):
        cuts = range(0, len(piece), LONGEST) if len(piece.rstrip()) > LONGEST else (0,)
        yield from (piece[start : start + LONGEST] if len(cuts) > 1 else piece for start in cuts)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text that is `width` characters wide at most; the last piece of a line loses its space."""
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def lines(table: Table, row: Sequence[str], wide: Sequence[int]) -> Iterator[Line]:
    """Return the lines of one row, each cell filled up to the width of its column."""
    parts: list[list[tuple[str, bool]]] = []
    for text, width in zip(row, wide, strict=True):
        whole = text.split("\n")
        parts.append([(part, i > 0) for i, line in enumerate(whole) for part in wrapped(line, width)])
    for number in range(max(map(len, parts), default=0)):
        here = [cell[number] if number < len(cell) else ("", False) for cell in parts]
        filled = (
            _fill(text, column, width) for (text, _), column, width in zip(here, table.columns, wide, strict=True)
        )
        yield Line(tuple(filled), tuple(second for _, second in here))


def _fill(text: str, column: Column, width: int) -> str:
    if column.number:
        return " " * max(width - cell_len(text), 0) + text
    return set_cell_size(text, max(width, cell_len(text)))
