"""Conversion of an image file to a model's input."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.errors import DataError, UsageError, first_line
from onnxopt.extras import READING, require
from onnxopt.files import open_regular
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.model_file.signature import IMAGE_SIDE
from onnxopt.options.reading import Layout, ReadOptions
from onnxopt.samples.placement import Placement

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MOST_PIXELS = 178_956_970
"""Pillow's own limit, above which it suspects a decompression bomb."""


@dataclass(frozen=True)
class ImageInput:
    """The model's image input; `size` is (height, width) in pixels, None if it is dynamic."""

    name: str
    layout: Layout
    channels: int
    size: tuple[int, int] | None
    is_float: bool


def image_layout(spec: TensorSpec) -> Layout | None:
    """Return the layout by the channel axis, the one of two with size 1 or 3; None if that is neither or both."""
    if spec.shape is None or len(spec.shape) != 4:
        return None
    first, last = spec.shape[1] in (1, 3), spec.shape[3] in (1, 3)
    if first == last:
        return None
    return "NCHW" if first else "NHWC"


def with_image_size(signature: Signature, options: ReadOptions) -> Signature:
    """Return the signature with the height and width of made-up images: `options.size`, or IMAGE_SIDE for free ones."""
    spec = signature.inputs[0] if len(signature.inputs) == 1 else None
    layout = None if spec is None else options.layout or image_layout(spec)
    if spec is None or spec.shape is None or len(spec.shape) != 4 or layout is None:
        return signature
    wanted = options.size if isinstance(options.size, tuple) else (options.size, options.size)
    shape = list(spec.shape)
    for axis, size in zip((2, 3) if layout == "NCHW" else (1, 2), wanted, strict=True):
        shape[axis] = size or (IMAGE_SIDE if not isinstance(shape[axis], int) else shape[axis])
    return replace(signature, inputs=(replace(spec, shape=tuple(shape)),))


def image_input(signature: Signature, options: ReadOptions) -> ImageInput:
    """Return the image input of the model.

    Raises:
        DataError: ONX203 the model has no single input of images.
        UsageError: ONX101 too many channels, ONX112 an option does not apply, ONX113 the layout is missing.
    """
    spec = signature.inputs[0] if len(signature.inputs) == 1 else None
    if spec is None or spec.shape is None or len(spec.shape) != 4 or spec.dtype == "str":
        raise DataError("ONX203", "the model does not take images", hint="An image model has one input of four axes.")
    layout = options.layout or image_layout(spec)
    if layout is None:
        raise UsageError("ONX113", "the axis of the channels is unknown", hint="Give layout NCHW or NHWC.")
    height, width, channels = (spec.shape[i] for i in ((2, 3, 1) if layout == "NCHW" else (1, 2, 3)))
    channels = channels if isinstance(channels, int) else 3
    if channels not in (1, 3):
        raise DataError("ONX203", "the model does not take images", why=f"{layout} has {channels} channels, not 1 or 3")
    is_float = "float" in spec.dtype
    plain = (options.divide_by, options.mean, options.std) in ((255, (0,), (1,)), (1, (0,), (1,)))
    if not is_float and not plain:
        raise UsageError(
            "ONX112",
            "mean, std and divide_by do not apply",
            where=str(spec),
            why=f"the model takes pixels as {spec.dtype}",
            hint="Leave them out.",
        )
    if max(len(options.mean), len(options.std)) > channels:
        raise UsageError("ONX101", "mean and std have more channels than the model", where=str(spec))
    size: tuple[int, int] | None = None
    if options.size is not None:
        size = options.size if isinstance(options.size, tuple) else (options.size, options.size)
    elif isinstance(height, int) and isinstance(width, int):
        size = (height, width)
    return ImageInput(spec.name, layout, channels, size, is_float)


def read_pixels(path: Path, target: ImageInput, options: ReadOptions) -> np.ndarray:
    """Decode, resize and normalize one image: x / divide_by, then (x - mean) / std; integer inputs get pixels.

    Raises:
        DataError: ONX201 the file is damaged or not an image, ONX204 it has more than 8 bits per channel.
        UsageError: ONX108 pillow is not installed.
    """
    try:
        with opened_image(path) as image:
            deep = image.mode[0] in "IF"
            picture = None if deep else _resized(image.convert("L" if target.channels == 1 else "RGB"), target, options)
    except UsageError:
        raise
    except Exception as error:  # pillow's decoders raise many types on damaged files
        # Of a file without a known format, Pillow adds how the file object prints.
        why = (getattr(error, "strerror", None) or first_line(error)).partition(" <")[0]
        hint = "Replace it or leave it out."
        raise DataError("ONX201", "not a readable image", where=str(path), why=why, hint=hint) from error
    if picture is None:
        raise DataError(
            "ONX204",
            "the image has more than 8 bits per channel",
            where=str(path),
            hint="Scale it as in training and give the arrays as .npz.",
        )
    pixels = np.asarray(picture).reshape(picture.height, picture.width, target.channels)
    if options.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    if target.is_float:
        scaled = pixels.astype(np.float32) / np.float32(options.divide_by)
        pixels = (scaled - np.array(options.mean, np.float32)) / np.array(options.std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if target.layout == "NCHW" else pixels)


@contextmanager
def opened_image(path: Path) -> Iterator[Any]:
    """Open an image of limited size in a format that Pillow decodes itself; raises Pillow's exceptions.

    Other formats would start programs, such as Ghostscript for PostScript. Warnings about size and metadata are hidden.
    """
    module = require("PIL.Image", "images", READING)
    with warnings.catch_warnings(), open_regular(path) as file:
        warnings.simplefilter("ignore")
        with module.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS}")
            yield image


def _resized(image: Any, target: ImageInput, options: ReadOptions) -> Any:
    place = Placement.of((image.height, image.width), target.size, options)
    module = require("PIL.Image", "images", READING)
    if place.scaled != (image.height, image.width):
        image = image.resize(place.scaled[::-1], module.Resampling.BILINEAR)
    if place.scaled == place.size:
        return image
    if options.resize == "letterbox":
        framed = module.new(image.mode, place.size[::-1], options.pad if image.mode == "L" else (options.pad,) * 3)
        framed.paste(image, place.offset[::-1])
        return framed
    top, left = -place.offset[0], -place.offset[1]
    return image.crop((left, top, left + place.size[1], top + place.size[0]))
