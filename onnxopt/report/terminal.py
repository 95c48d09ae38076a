"""Documents on a terminal, at 80 columns and without colour as well as with."""

from io import StringIO

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from onnxopt.report.document import Block, Document, Facts, Table

LEAST_WIDTH, WIDE = 80, 100
_COLOURS = {
    "winner": "bold green",
    "over budget": "red",
    "failed": "red",
    "not faster": "yellow",
    "larger": "yellow",
    "not proven": "yellow",
}


def to_text(document: Document, *, width: int = LEAST_WIDTH, colour: bool = False) -> str:
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
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _print(console: Console, block: Block) -> None:
    if isinstance(block, Table):
        _print_table(console, block)
    elif isinstance(block, Facts):
        _print_facts(console, block)
    else:
        for line in block.lines:
            console.print(RichText(line))


def _print_table(console: Console, block: Table) -> None:
    if block.title:
        console.print(RichText(block.title, style="bold"))
    gap = 2 if console.width >= WIDE else 1
    table = RichTable(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for column in block.columns:
        table.add_column(RichText(column.title), justify="right" if column.number else "left", overflow="fold")
    for row in block.rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(text: str) -> RichText:
    style = next((colour for word, colour in _COLOURS.items() if text.startswith(word)), "")
    if style:
        return RichText(text, style=style)
    first, newline, second = text.partition("\n")
    return RichText(first).append(newline + second, style="dim")


def _print_facts(console: Console, block: Facts) -> None:
    if block.title:
        console.print(RichText(block.title, style="bold"))
    table = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in block.pairs:
        table.add_row(RichText(name), RichText(value))
    console.print(table)
