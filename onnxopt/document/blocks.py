"""The content of a result independent of its display: tables, facts and sentences, with the same content as data.

Names come from models and files of anybody, so the blocks for people hold no control characters; the data, which JSON
escapes, is as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from markupsafe import Markup

from onnxopt.document.parts import Block, Column, Facts, Table, Text

__all__ = ["Block", "Column", "Displayed", "Document", "Facts", "Table", "Text", "to_html"]


@dataclass(frozen=True)
class Document:
    """The result of a command: `blocks` for people, `data` (JSON-ready) for programs."""

    blocks: tuple[Block, ...]
    data: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the text for a terminal of the usual width."""
        from onnxopt.document.terminal import to_text  # rich takes long to import, and most documents are not printed

        return to_text(self).rstrip("\n")

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook."""
        return to_html(self)


class _HasDocument(Protocol):
    @property
    def document(self) -> Document: ...


class Displayed:
    """A result that is printed and shown as its `document`, whose `data` has the figures, JSON-ready."""

    def __str__(self: _HasDocument) -> str:
        """Return the tables and sentences that the command prints; `repr` has the fields."""
        return str(self.document)

    def _repr_html_(self: _HasDocument) -> str:
        """Return the HTML for a notebook."""
        return to_html(self.document)


def to_html(document: Document) -> str:
    """Return the document as a fragment of HTML, without styles and with every text escaped, for notebooks."""
    return str(Markup("\n").join(map(_block, document.blocks)))


def _block(block: Block) -> Markup:
    if isinstance(block, Table):
        head = _row([c.title for c in block.columns], "th")
        body = Markup("\n").join(_row(row, "td") for row in block.rows)
        table = Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(head, body)
    elif isinstance(block, Facts):
        rows = (Markup("<tr><th>{}</th><td>{}</td></tr>").format(*pair) for pair in block.pairs)
        table = Markup("<table><tbody>{}</tbody></table>").format(Markup("\n").join(rows))
    else:
        return Markup("\n").join(Markup("<p>{}</p>").format(line) for line in block.lines)
    return Markup("<p><b>{}</b></p>{}").format(block.title, table) if block.title else table


def _row(cells: list[str] | tuple[str, ...], kind: str) -> Markup:
    shown = (Markup("<br>").join(cell.split("\n")) for cell in cells)
    tag = Markup(kind)
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<{0}>{1}</{0}>").format(tag, cell) for cell in shown))
