"""The interface of detector layouts: boxes, scores and classes of each image."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, chosen, misfit
from onnxopt.measure.tasks.detection.boxes import Detections, suppressed
from onnxopt.samples.core import Array

Found = tuple[Array, Array, Array]
"""Boxes `(k, 4)`, scores `(k,)` and classes `(k,)` of one image."""


class BoxLayout(ABC):
    """The reading of one detector's outputs.

    Attributes:
        name: name of the layout.
        overlapping: whether the outputs hold several boxes per object, which need suppression.
    """

    name: ClassVar[str]
    overlapping: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """The name for `--decode`."""
        return self.name

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the layout reads."""

    @abstractmethod
    def images(self, outputs: Outputs, size: int) -> Iterator[Found]:
        """Return all boxes, scores and classes of each of `size` images.

        Raises:
            DataError: ONX209 the outputs do not have this layout.
        """

    def detections(self, outputs: Outputs, size: int, *, least: float, iou: float) -> list[Detections]:
        """Return the boxes of each image with a score of at least `least`, one per object.

        Raises:
            DataError: ONX209 the outputs do not have this layout.
        """
        found = [Detections.of(*parts, least) for parts in self.images(outputs, size)]
        return [suppressed(one, iou) for one in found] if self.overlapping else found

    def tensor(self, outputs: Outputs, name: str, size: int, axes: int) -> Array:
        """Return output `name` as `(size, ...)` with `axes` axes; an output of one image may lack the first."""
        value: Any = chosen(outputs, name)
        array = np.asarray(value)
        if size == 1 and array.ndim == axes - 1:
            array = array[None]
        # Exporters keep axes of size 1 in the middle: (n, boxes, 1, 4).
        while array.ndim > axes and 1 in array.shape[1:-1]:
            array = np.squeeze(array, axis=1 + array.shape[1:-1].index(1))
        if array.ndim != axes or len(array) != size:
            why = f"{name!r} has shape {list(np.shape(value))} for {size} images"
            raise misfit(why, "Run the samples at batch size 1, or name another layout with --decode.", where=self.name)
        return array.astype(np.float64)


def best_class(scores: Array) -> tuple[Array, Array]:
    """Return the highest of `(k, classes)` scores and its class."""
    classes = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), classes], classes
