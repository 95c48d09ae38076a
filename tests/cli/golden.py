"""Compare output with a stored one, words only and every number masked: widths and line breaks follow the numbers."""

import os
import re
from pathlib import Path

_FIGURES = {"#", "-", "<#", "unsure", "#x", "[#,", "#]", "#,"}
FOLDER = Path(__file__).parent / "golden"


def mask(text: str) -> str:
    return re.sub(r"(?<![\w.])-?\d+(\.\d+)?(?![\w.]*onnx)", "#", text)


def _speed_apart(words: list[str]) -> list[str]:
    """Leave out which of two equal models seemed faster this time, and whether the host let the clock be sure."""
    text = re.sub(r"Warning: noisy host.*?--seconds\.", "", " ".join(words))
    text = re.sub(r"At batch size #, .*?(?=At batch size #,|Measured on|$)", "", text)
    text = re.sub(r"The speed-up is unsure:.*", "", text)
    text = re.sub(r"\bas fast( as)?\b|#x (faster|slower)( than)?", "", text)
    return [word for word in text.split() if word not in _FIGURES]


def check(name: str, text: str, *, measured: bool = False) -> None:
    """Run the tests with ONNXOPT_WRITE_GOLDEN=1 to store what is printed now.

    Where figures are measured, their width moves words to another line of a table: the order does not count.
    """
    path = FOLDER / f"{name}.txt"
    if os.environ.get("ONNXOPT_WRITE_GOLDEN"):
        path.write_text(mask(text))
    words, stored = mask(text).split(), path.read_text().split()
    if measured:
        words, stored = sorted(_speed_apart(words)), sorted(_speed_apart(stored))
    assert words == stored
