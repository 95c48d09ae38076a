"""Documents on a terminal of any width, without colour as well as with."""

import re
from io import StringIO
from typing import Protocol

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from onnxopt.document.columns import Line, lines, widths
from onnxopt.document.parts import Block, Facts, Table

_TIE = "\ue000"
"""Stands for a space at which no line is broken, such as the one before a percent sign."""
_TIED = re.compile(r"(?<=\d) (?=(?:%|ms|s|kB|MB|GB|dB|points?)(?!\w))")
_COMMAND = re.compile(r"(?P<words>\S.*?: |)(?P<command>onnxopt [a-z].*[^.])")
"""A sentence that ends in a command, which has no period behind it."""
USUAL_WIDTH, LEAST_WIDTH, WIDE = 80, 40, 100
_COLOURS = {
    "winner": "bold green",
    "over budget": "red",
    "failed": "red",
    "not faster": "yellow",
    "larger": "yellow",
    "not proven": "yellow",
}


class _HasBlocks(Protocol):
    @property
    def blocks(self) -> tuple[Block, ...]: ...


def to_text(document: _HasBlocks, *, width: int = USUAL_WIDTH, colour: bool = False) -> str:
    """Return the document for a terminal that is `width` columns wide."""
    buffer = StringIO()
    console = Console(
        file=buffer,
        width=max(width, LEAST_WIDTH),
        force_terminal=colour,
        no_color=not colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    for position, block in enumerate(document.blocks):
        if position:
            console.print()
        _print(console, block)
    return "\n".join(line.replace(_TIE, " ").rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _print(console: Console, block: Block) -> None:
    if isinstance(block, Table):
        _print_table(console, block)
    elif isinstance(block, Facts):
        _print_facts(console, block)
    else:
        for line in block.lines:
            _print_line(console, _TIED.sub(_TIE, line))


def _print_line(console: Console, line: str) -> None:
    """Print a line of text; its continuations are indented as it is."""
    command = _COMMAND.fullmatch(line)
    if command and len(line) > console.width:
        words = command["words"].rstrip()
        if words:
            _print_line(console, words)
        line = f"    {command['command']}"
    indent = len(line) - len(line.lstrip(" "))
    # A line that is indented by four is a command, which must stay whole to be copied.
    if not indent or indent >= 4:
        console.print(RichText(line), soft_wrap=indent >= 4)
    else:
        console.print(Padding(RichText(line.lstrip(" ")), (0, 0, 0, indent), expand=False))


def _print_table(console: Console, block: Table) -> None:
    if block.title:
        console.print(RichText(block.title, style="bold"))
    gap = 2 if console.width >= WIDE else 1
    wide = widths(block, console.width, gap)
    if wide is None:
        _print_rows_apart(console, block)
        return
    for line in lines(block, [column.title for column in block.columns], wide):
        console.print(RichText((" " * gap).join(line.cells).rstrip(), style="bold"), soft_wrap=True)
    for row in block.rows:
        for line in lines(block, row, wide):
            console.print(_styled(row, line, " " * gap), soft_wrap=True)


def _print_rows_apart(console: Console, block: Table) -> None:
    """Print one line per cell, where the columns do not fit side by side."""
    for row in block.rows:
        console.print(RichText(row[0].replace("\n", "")))
        for column, cell in zip(block.columns[1:], row[1:], strict=True):
            if cell not in ("", "-"):
                first, newline, second = cell.partition("\n")
                style = _colour(cell)
                text = RichText(f"  {column.title}: ").append(first, style=style)
                console.print(text.append(f" ({second.strip('[]()')})" if newline else "", style="dim"))


def _styled(row: tuple[str, ...], line: Line, gap: str) -> RichText:
    text = RichText()
    for cell, shown, second in zip(row, line.cells, line.second, strict=True):
        text.append(shown, style=_colour(cell) or ("dim" if second else "")).append(gap)
    return text


def _colour(cell: str) -> str:
    return next((colour for word, colour in _COLOURS.items() if cell.startswith(word)), "")


def _print_facts(console: Console, block: Facts) -> None:
    if block.title:
        console.print(RichText(block.title, style="bold"))
    table = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in block.pairs:
        table.add_row(RichText(name), RichText(value))
    console.print(table)
