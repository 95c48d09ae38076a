"""Documents as a fragment of HTML, for notebooks: without styles, so that it looks like what is around it."""

from markupsafe import Markup

from onnxopt.report.document import Block, Document, Facts, Table


def to_html(document: Document) -> str:
    """Return the document as HTML in which every text is escaped."""
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


def _row(cells: "list[str] | tuple[str, ...]", kind: str) -> Markup:
    shown = (Markup("<br>").join(cell.split("\n")) for cell in cells)
    tag = Markup(kind)
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<{0}>{1}</{0}>").format(tag, cell) for cell in shown))
