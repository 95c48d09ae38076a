"""Decoding: from scores of every step to sequences of symbols and to text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import FileError, first_line
from onnxopt.files import read_text
from onnxopt.measure.metrics.outputs import is_float, misfit
from onnxopt.samples.core import Array

DICTIONARY = "character"
"""Key of the characters in the metadata of PaddleOCR's text recognizers."""
NOTHING = -2
"""The class of a step with a NaN score; it differs from all classes and from the blank."""


@dataclass(frozen=True)
class Decoding:
    """The reading of an output as sequences.

    Attributes:
        batch_axis: 0, or 1 for time-major scores `(steps, n, classes)`.
        blank: index of the CTC blank; None for a class per step, which is not collapsed.
        characters: the symbol of every class in order, without the blank; empty if unknown.
    """

    batch_axis: int = 0
    blank: int | None = None
    characters: tuple[str, ...] = ()

    def steps(self, value: Any) -> Array:
        """Return the class of every step, `(n, steps)`; `NOTHING` where a score is NaN.

        Raises:
            DataError: ONX209 the output holds no scores of steps.
        """
        array = np.asarray(value)
        if array.ndim == 2 and array.dtype.kind in "iu":
            return array
        if array.ndim != 3 or not is_float(array):
            hint = "Name an output [N, T, C] or [T, N, C]."
            raise misfit(f"the output is {array.dtype} of shape {list(array.shape)}", hint, where="sequence")
        best = np.where(np.isnan(array).any(axis=-1), NOTHING, array.argmax(axis=-1))
        return best if self.batch_axis == 0 else best.T

    def sequences(self, value: Any) -> list[tuple[int, ...]]:
        """Return the classes of every sample; with CTC, without repeats and blanks (best path).

        Source: Graves et al., "Connectionist temporal classification", 2006.
        """
        steps = self.steps(value)
        if self.blank is None:
            return [tuple(row.tolist()) for row in steps]
        return [collapse(row, self.blank) for row in steps]

    def texts(self, value: Any) -> list[str]:
        """Return the text of every sample.

        Raises:
            DataError: ONX209 there are more classes than characters.
        """
        table = self.table(int(np.shape(value)[-1]))
        return ["".join(table.get(symbol, "\ufffd") for symbol in row) for row in self.sequences(value)]

    def table(self, classes: int) -> dict[int, str]:
        """Return the character of each class; if one is missing, the last is the space.

        Raises:
            DataError: ONX209 the characters do not fit the number of classes.
        """
        symbols = [index for index in range(classes) if index != self.blank]
        missing = len(symbols) - len(self.characters)
        if missing not in (0, 1):
            why = f"{len(self.characters)} characters for {len(symbols)} classes besides the blank"
            raise misfit(why, "Give one character per line, in the order of the classes.", where="characters")
        return dict(zip(symbols, (*self.characters, " "), strict=False))


def collapse(steps: Array, blank: int) -> tuple[int, ...]:
    """Return the symbols of a CTC path, without repeats and blanks."""
    kept = np.ones(len(steps), dtype=bool)
    kept[1:] = steps[1:] != steps[:-1]
    return tuple(steps[kept & (steps != blank)].tolist())


def characters_of(given: str | None, metadata: str = "") -> tuple[str, ...]:
    """Return the characters in a file, in a text, or in a model's metadata; empty without any.

    In a text of several lines, each line is a symbol; a single line holds symbols of one character each.

    Raises:
        FileError: ONX501 there is no such file, ONX505 it cannot be read.
    """
    if given is None or not _looks_like_a_path(given):
        text = metadata if given is None else given
        return tuple(text.split("\n")) if "\n" in text else tuple(text)
    path = Path(given)
    try:
        lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    except FileNotFoundError:
        what = "the file of characters does not exist"
        raise FileError("ONX501", what, where=given, hint="Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        why = first_line(error)
        raise FileError("ONX505", "the file of characters cannot be read", where=given, why=why) from error
    return tuple(lines[:-1] if lines and lines[-1] == "" else lines)


def _looks_like_a_path(text: str) -> bool:
    """Return whether a text is a path: a list of characters has no repeats, and hardly ever a file suffix."""
    return "\n" not in text and len(text) < 4096 and (Path(text).suffix in (".txt", ".dict") or _is_file(text))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
