"""Labels of samples that the bench draws itself: the contents of the picture, as a reading of outputs returns them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from deployed_cases import Case, Feeds, Make, drawn_characters, line, words
from PIL import ImageFont


@dataclass(frozen=True)
class Labelled:
    """Samples whose answer is known.

    Attributes:
        make: sample `index` to the inputs of a run; None for those of the case.
        truth: the perfect prediction for sample `index`, as the case's reading returns it.
    """

    truth: Callable[[int, Path], Any]
    make: Make | None = None


def drawn_line(index: int) -> Feeds:
    """Return a line whose text fits into the picture: what is cut off could not be read by anybody."""
    rng = np.random.default_rng(index)
    width, text = _text_of(rng)
    pixels = np.asarray(line(rng, 48, width, text), np.float32)
    return {"x": ((pixels[..., ::-1] / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]}


def _text_of(rng: np.random.Generator) -> tuple[int, str]:
    width = int(rng.choice([192, 256, 320, 416]))
    text = words(rng, 1, width // 90)
    largest = ImageFont.load_default(size=0.7 * 48)
    while largest.getlength(text) > width - 8:
        shorter, _, _ = text.rpartition(" ")
        text = shorter or text[:-1]
    return width, text


def text_of_line(index: int, model: Path) -> str:
    _, text = _text_of(np.random.default_rng(index))
    return "".join(chr(0xE000 + _dictionary(model)[character]) for character in text)


@cache
def _dictionary(model: Path) -> Mapping[str, int]:
    """Return the class of each character, from the model's metadata; the first class is the blank of CTC."""
    metadata = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return {character: i for i, character in enumerate([*metadata["character"].splitlines(), " "], 1)}


TRUTHS: Mapping[str, Labelled] = {
    "rapidocr-rec": Labelled(text_of_line, drawn_line),
    "rapidocr-cls": Labelled(lambda index, _: index % 2),  # every second line is upside down
    "ddddocr-det": Labelled(lambda index, _: [(0, 1.0, box) for box in drawn_characters(index)[1]]),
}
"""By name of the case. The photos of the others have no boxes, and their texts no dictionary."""


def labelled(case: Case) -> Case:
    """Return the case with inputs whose labels are known, where there are some."""
    make = TRUTHS[case.name].make if case.name in TRUTHS else None
    return replace(case, make=make) if make else case
