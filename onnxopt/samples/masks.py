"""Labels of segmentation: a folder of PNG files, one for each image, whose pixels are class numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import DataError, UsageError, first_line, nearest
from onnxopt.extras import READING, require
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.core import Samples, Source
from onnxopt.samples.images import Images, refuse_outside
from onnxopt.samples.pixels import opened_image
from onnxopt.samples.placement import Placement

NO_CLASS = 255
"""The number of pixels without a label, and of pixels beside a letterboxed image."""


def is_mask_folder(labels: object) -> bool:
    """Return whether labels are a folder of PNG files."""
    if not isinstance(labels, str | Path) or not Path(labels).is_dir():
        return False
    return any(Path(labels).rglob("*.png"))


def read_masks(labels: str | Path, source: Source | Samples, options: ReadOptions) -> np.ndarray:
    """Return class numbers `(n, H, W)`, resized and placed like the images, by the nearest pixel.

    Image files find their masks by name; other samples take them in the sorted order of names.

    Raises:
        DataError: ONX206 an image has no mask, a file is not a map of class numbers, or masks differ in size.
        UsageError: ONX108 pillow is not installed.
    """
    folder = Path(labels)
    found = sorted(folder.rglob("*.png"))
    refuse_outside(folder, found)
    size = None
    if isinstance(source, Images):
        size = source.target.size
        by_name = {file.stem: file for file in found}
        for file in source.files:
            if file.stem not in by_name:
                what = f"the labels have no mask of {file.name!r}"
                raise DataError("ONX206", what, where=str(folder), hint=nearest(file.stem, list(by_name)[:20]))
        found = [by_name[file.stem] for file in source.files]
    if len(found) != len(source):
        why = f"{len(found)} masks for {len(source)} samples"
        hint = "Give a folder of image files as data, which find their masks by name."
        raise DataError("ONX206", "labels and samples differ in number", where=str(folder), why=why, hint=hint)
    masks = [_read(file, size, options) for file in found]
    other = next((index for index, mask in enumerate(masks) if mask.shape != masks[0].shape), None)
    if other is not None:
        why = f"{masks[0].shape} and, of {found[other].name}, {masks[other].shape}"
        raise DataError("ONX206", "the masks differ in size", where=str(folder), why=why, hint="Give --size.")
    return np.stack(masks)


def _read(path: Path, size: tuple[int, int] | None, options: ReadOptions) -> np.ndarray:
    try:
        with opened_image(path) as image:
            mode = image.mode
            placed = _placed(image, size, options) if mode in ("L", "P", "1") else None
    except UsageError:
        raise
    except Exception as error:  # pillow's decoders raise many types on damaged files
        raise DataError("ONX206", "not a readable mask", where=str(path), why=first_line(error)) from error
    if placed is None:
        hint = "Write masks with one channel of 8 bits, gray or with a palette: the pixel is the class number."
        raise DataError("ONX206", "the mask holds no class numbers", where=str(path), why=f"mode {mode}", hint=hint)
    return placed


def _placed(image: Any, size: tuple[int, int] | None, options: ReadOptions) -> np.ndarray:
    place = Placement.of((image.height, image.width), size, options)
    if place.scaled != (image.height, image.width):
        image = image.resize(place.scaled[::-1], require("PIL.Image", "images", READING).Resampling.NEAREST)
    pixels = np.asarray(image).astype(np.uint8)
    whole = np.full(place.size, NO_CLASS, dtype=np.uint8)
    top, left = (max(offset, 0) for offset in place.offset)
    rows, columns = (max(-offset, 0) for offset in place.offset)
    part = pixels[rows : rows + place.size[0], columns : columns + place.size[1]]
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return whole
