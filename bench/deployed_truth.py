"""Labels of samples that the bench draws itself: the contents of the picture, as a reading of outputs returns them."""

import ast
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from deployed_cases import LETTERS, Case, Feeds, Make, captcha_text, drawn_characters, line, words
from deployed_reading import Outputs, Reading, ctc, same_text
from PIL import ImageFont


@dataclass(frozen=True)
class Labelled:
    """Samples whose answer is known.

    Attributes:
        make: sample `index` to the inputs of a run; None for those of the case.
        truth: the perfect prediction for sample `index`, as the case's reading returns it.
        reading: of the outputs of a model, comparable with labels; None for that of the case.
    """

    truth: Callable[[int, Path], Any]
    make: Make | None = None
    reading: Callable[[Path], Reading] | None = None


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
    return "".join(chr(0xE000 + _dictionary(model)[character]) for character in text if character != " ")


@cache
def _dictionary(model: Path) -> Mapping[str, int]:
    """Return the class of each character, from the model's metadata; the first class is the blank of CTC."""
    metadata = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return {character: i for i, character in enumerate([*metadata["character"].splitlines(), " "], 1)}


def read_without_spaces(outputs: Outputs) -> str:
    """Return the text without its spaces, the last class: FP32 reads only some of those that are drawn."""
    return ctc(outputs, time_first=False).replace(chr(0xE000 + next(iter(outputs.values())).shape[-1] - 1), "")


def text_of_captcha(index: int, model: Path) -> str:
    return "".join(chr(0xE000 + _characters(model)[letter]) for letter in captcha_text(np.random.default_rng(index)))


def read_capitals(model: Path, outputs: Outputs) -> str:
    """Return the letters as capitals: of many, such as S and W, the small form looks alike."""
    text, known = ctc(outputs, time_first=True), _characters(model)
    capitals = {chr(0xE000 + known[letter.lower()]): chr(0xE000 + known[letter]) for letter in LETTERS}
    return text.translate(str.maketrans(capitals))


@cache
def _characters(model: Path) -> Mapping[str, int]:
    """Return the class of each character, from the list in the source of the package, of which nothing is executed."""
    (wheel,) = (model.parents[2] / "packages").glob("ddddocr==*/*.whl")
    with zipfile.ZipFile(wheel) as package:
        source = ast.parse(package.read("ddddocr/charsets.py").decode())
    lists = {ast.unparse(one.targets[0]): one.value for one in source.body if isinstance(one, ast.Assign)}
    return {character: number for number, character in enumerate(ast.literal_eval(lists["CHARSET_BETA"]))}


def characters_right(before: Sequence[str], after: Sequence[str]) -> dict[str, float]:
    """Return the figures of texts, that of single characters first: most lines have a wrong one in FP32 too."""
    figures = same_text(before, after)
    return {"1 - CER": figures["1 - CER"], **figures}


TRUTHS: Mapping[str, Labelled] = {
    "rapidocr-rec": Labelled(text_of_line, drawn_line, lambda _: Reading(read_without_spaces, characters_right)),
    "ddddocr": Labelled(text_of_captcha, None, lambda m: Reading(partial(read_capitals, m), characters_right)),
    "rapidocr-cls": Labelled(lambda index, _: index % 2),  # every second line is upside down
    "ddddocr-det": Labelled(lambda index, _: [(0, 1.0, box) for box in drawn_characters(index)[1]]),
}
"""By name of the case. The photos of the others have no boxes."""


def labelled(case: Case, model: Path) -> Case:
    """Return the case with inputs whose labels are known, where there are some, and outputs read as these."""
    known = TRUTHS.get(case.name)
    if known is None:
        return case
    return replace(case, make=known.make or case.make, reading=known.reading(model) if known.reading else case.reading)
