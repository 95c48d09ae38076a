"""Text from models, data and messages as it may be printed: no control characters, which a terminal would obey."""

import re

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of writing
    "\u2028\u2029\ufeff]"  # separators of lines, and no character at all
    "|[\ud800-\udfff]"  # halves of a character, which no encoding has
)


def printable(text: str) -> str:
    """Return text with every control character, but tab and newline, as the escape that Python and JSON write."""
    return CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
