"""Evidence for the parts of a detector's outputs: image sizes, grids, boxes and probabilities."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, is_float
from onnxopt.measure.tasks.detection.layout import BoxLayout
from onnxopt.measure.tasks.task import ModelFacts
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

Finding = tuple[BoxLayout, str]
"""A layout, and the evidence in words that follow "because"."""
Image = tuple[int, int] | None
"""Height and width of the input in pixels, where an input is an image."""
FEWEST_ROWS = 16
"""Fewest places of a detector; fewer rows are a list of numbers."""
STRIDES = (4, 8, 16, 32, 64)
_SMALLEST_IMAGE = 16
_RELATED = 0.5
"""Correlation of centers with places of cells: of decoded boxes it is above 0.9, of offsets near zero."""


@dataclass(frozen=True, eq=False)
class OutputView:
    """One run of the baseline.

    Attributes:
        outputs: numpy arrays by name.
        image: height and width of the input in pixels; None when no input is an image.
        facts: facts of the model's graph.
    """

    outputs: Mapping[str, Array] = field(repr=False)
    image: Image
    facts: ModelFacts = field(repr=False)

    @classmethod
    def of(cls, outputs: Outputs, image: Image, facts: ModelFacts) -> "OutputView":
        """Return the view of outputs that are arrays."""
        arrays = {name: value for name, value in outputs.items() if isinstance(value, np.ndarray)}
        return cls(arrays, image, facts)

    def floats(self, axes: int) -> dict[str, Array]:
        """Return the float outputs with `axes` axes."""
        found = {name: value for name, value in self.outputs.items() if is_float(value)}
        return {name: value.astype(np.float64) for name, value in found.items() if value.ndim == axes}

    def class_names(self) -> int | None:
        """Return the number of class names in the file's metadata, as written by Ultralytics' exporter."""
        try:
            names = ast.literal_eval(self.facts.metadata.get("names", ""))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
        return len(names) if isinstance(names, dict | list | tuple) and names else None


def image_size(feeds: Feeds) -> tuple[int, int] | None:
    """Return height and width of the only image input: four axes and 1, 3 or 4 channels."""
    sizes = []
    for value in feeds.values():
        shape = np.shape(value)
        if len(shape) == 4 and shape[1] in (1, 3, 4):
            sizes.append(shape[2:])
        elif len(shape) == 4 and shape[3] in (1, 3, 4):
            sizes.append(shape[1:3])
    if len(sizes) != 1 or min(sizes[0]) < _SMALLEST_IMAGE:
        return None
    return int(sizes[0][0]), int(sizes[0][1])


def grids(rows: int, image: Image) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Return the grids of neighbouring strides, two or more, that `rows` rows fill: (boxes per cell, strides)."""
    if image is None:
        return
    cells = [(image[0] // stride) * (image[1] // stride) for stride in STRIDES]
    for first, last in combinations(range(len(STRIDES) + 1), 2):
        total = sum(cells[first:last])
        if last - first > 1 and total and rows in (total, 3 * total):
            yield rows // total, STRIDES[first:last]


def cells(image: tuple[int, int], strides: tuple[int, ...]) -> Array:
    """Return `(rows, 3)`: column, row and stride of every cell of the grids, in the order of a detector's rows."""
    parts = []
    for stride in strides:
        y, x = np.mgrid[: image[0] // stride, : image[1] // stride]
        parts.append(np.stack((x.ravel(), y.ravel(), np.full(x.size, stride)), axis=1))
    return np.concatenate(parts)


def follow_cells(points: Array, grid: Array) -> bool:
    """Return whether points `(n, rows, 2)` lie where their cells do, in any unit: offsets within cells do not."""
    places = (grid[:, :2] + 0.5) * grid[:, 2:]
    with np.errstate(invalid="ignore"):
        related = [np.corrcoef(points[..., axis].mean(axis=0), places[:, axis])[0, 1] for axis in (0, 1)]
    return bool(min(related) > _RELATED)


def within_one(values: Array) -> bool:
    """Return whether every finite value lies between 0 and 1, up to rounding."""
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() >= -1e-4 and known.max() <= 1 + 1e-4)


def whole_numbers(values: Array) -> bool:
    """Return whether every value is a whole number that can be a class."""
    known = np.asarray(values, dtype=np.float64)
    return bool(np.isfinite(known).all() and (known == np.round(known)).all() and (known >= -1).all())


def are_corners(boxes: Array, image: Image) -> bool:
    """Return whether nearly all of `(..., 4)` are left, top, right, bottom, inside or near the image."""
    flat = boxes.reshape(-1, 4)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if not len(flat) or not flat.any():
        return False
    ordered = (flat[:, 2:] >= flat[:, :2]).all(axis=1).mean() >= 0.95
    largest = np.quantile(np.abs(flat), 0.99)
    return bool(ordered and (image is None or largest <= 2 * max(image)))


def are_centers(boxes: Array, image: Image) -> bool:
    """Return whether nearly all of `(..., 4)` are center and size: inside the image, with sizes above zero."""
    flat = boxes.reshape(-1, 4)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if not len(flat) or not flat.any():
        return False
    sizes, centers = flat[:, 2:], flat[:, :2]
    unit = 1.0 if np.quantile(flat, 0.99) <= 2 else float(max(image) if image else flat.max())
    inside = ((centers >= -0.2 * unit) & (centers <= 1.2 * unit)).all(axis=1).mean() >= 0.95
    return bool(inside and (sizes >= 0).mean() >= 0.95 and np.quantile(sizes, 0.5) <= 2 * unit)
