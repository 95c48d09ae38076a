"""Class of each pixel from a segmentation output."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnxopt.measure.metrics.outputs import is_float, misfit
from onnxopt.samples.core import Array

MOST_CLASSES = 256
"""Most classes of outputs that hold class numbers, which do not show the number of classes."""


@dataclass(frozen=True)
class MapReading:
    """The reading of a map.

    Attributes:
        kind: `scores` of every class, of which the highest counts; `binary` maps, one per class, where each element
            is in or out; `classes`, numbers already.
        axis: axis of the classes: 1 (NCHW) or -1 (NHWC).
        threshold: threshold of binary maps.
    """

    kind: Literal["scores", "binary", "classes"]
    axis: int = 1
    threshold: float = 0.5

    def labels(self, value: Any) -> Array:
        """Return classes `(n, elements)`, -1 where a score is NaN; for binary maps, booleans `(n, maps, elements)`.

        Raises:
            DataError: ONX209 the output is not a map, or has too many classes.
        """
        array = np.asarray(value)
        if self.kind == "classes":
            if array.dtype.kind not in "iub" or array.ndim < 3:
                raise misfit(f"the output is {array.dtype} of shape {list(array.shape)}", "Name a map of classes.")
            if array.size and int(array.max()) >= MOST_CLASSES:
                raise misfit(f"class {int(array.max())} in a map", f"At most {MOST_CLASSES} classes are counted.")
            return array.reshape(len(array), -1)
        if not is_float(array) or array.ndim < 3:
            raise misfit(f"the output is {array.dtype} of shape {list(array.shape)}", "Name an output [N, C, H, W].")
        scores = self._classes_second(array)
        if self.kind == "binary":
            return scores > self.threshold
        best = scores.argmax(axis=1)
        return np.where(np.isnan(scores).any(axis=1), -1, best)

    def classes(self, value: Any) -> int:
        """Return the number of classes of the output."""
        array = np.asarray(value)
        if self.kind == "classes":
            return MOST_CLASSES
        return int(array.shape[self.axis]) if array.ndim > 3 else 1

    def size(self, value: Any) -> tuple[int, int]:
        """Return height and width of a map."""
        shape = np.shape(value)
        if self.kind == "classes" or len(shape) == 3:
            first = -3 if len(shape) > 3 and shape[-1] == 1 else -2
        else:
            first = 2 if self.axis == 1 else 1
        height, width = shape[first], shape[first + 1]
        return int(height), int(width)

    def _classes_second(self, array: Array) -> Array:
        if array.ndim == 3:  # one map without an axis of classes
            array, axis = array[:, None], 1
        else:
            axis = self.axis
        moved = np.moveaxis(np.asarray(array, dtype=np.float32), axis, 1)
        return moved.reshape(*moved.shape[:2], -1)


def class_axis(shape: tuple[int, ...], sizes: tuple[tuple[int, int], ...] = ()) -> int:
    """Return the axis of the classes of a map `(n, ., ., .)`: 1, or -1 where the first two axes are the image.

    Args:
        shape: shape of the map.
        sizes: height and width of the input images, whose proportions the map has.
    """
    if len(shape) < 4:
        return 1
    first, last = shape[2:4], shape[1:3]
    for size in sizes:
        if _proportional(first, size) != _proportional(last, size):
            return 1 if _proportional(first, size) else -1
    return -1 if shape[3] < min(shape[1:3]) else 1


def _proportional(map_size: tuple[int, ...], image: tuple[int, int]) -> bool:
    height, width = map_size
    return height > 1 and width > 1 and abs(height / image[0] - width / image[1]) * max(image) < 1
