"""Results on stdout, notes on stderr."""

import json
import os
import shutil
import sys
from math import isfinite
from typing import TYPE_CHECKING, Any

from onnxopt.cli.options import Shown
from onnxopt.printable import CONTROL, printable

if TYPE_CHECKING:
    from onnxopt.document.blocks import Document


def emit(document: "Document", shown: Shown) -> None:
    """Print the result of a command in the chosen format."""
    if shown.format == "json":
        text = json_text(document.data)
    elif shown.format == "md":
        from onnxopt.document.markdown import to_markdown

        text = to_markdown(document)
    else:
        from onnxopt.document.terminal import to_text

        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size((80, 24)).columns
        text = to_text(document, width=width, colour=terminal and not os.environ.get("NO_COLOR"))
    sys.stdout.write(text)


def json_text(data: Any) -> str:
    """Return strict JSON; NaN and infinities become null."""
    # Within strings JSON has escapes for them, and it has none outside.
    text = json.dumps(_strict(data), indent=2, ensure_ascii=False, allow_nan=False)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def note(text: str, shown: Shown) -> None:
    """Print a note on stderr."""
    if not shown.quiet:
        print(printable(text), file=sys.stderr)


def quieten(shown: Shown) -> None:
    """Silence the logs of libraries, except in verbose mode."""
    import logging

    logging.basicConfig(stream=sys.stderr, level=logging.INFO if shown.verbose else logging.ERROR, format="%(message)s")
    logging.getLogger().setLevel(logging.INFO if shown.verbose else logging.ERROR)
