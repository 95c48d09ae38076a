"""Documents as Markdown."""

from onnxopt.document.blocks import Block, Document, Facts, Table


def to_markdown(document: Document) -> str:
    """Return the document as GitHub-flavoured Markdown."""
    return "\n\n".join(map(_block, document.blocks)) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Table):
        marks = ("---:" if c.number else "---" for c in block.columns)
        lines = [_row(tuple(c.title for c in block.columns)), _row(tuple(marks)), *map(_row, block.rows)]
    elif isinstance(block, Facts):
        lines = ["| | |", "|---|---|", *map(_row, block.pairs)]
    else:
        return "\n\n".join(_escape(line) for line in block.lines)
    return "\n".join([f"**{block.title}**", "", *lines] if block.title else lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_escape(c) for c in cells)} |"


def _escape(text: str) -> str:
    """Return text that is no table, tag or link, wherever it came from."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("](", "]\\(")
