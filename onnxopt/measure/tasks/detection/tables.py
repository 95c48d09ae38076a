"""Detectors of the YOLO family: one table, a row per place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, misfit
from onnxopt.measure.tasks.detection.boxes import from_centers
from onnxopt.measure.tasks.detection.evidence import cells
from onnxopt.measure.tasks.detection.layout import BoxLayout, Found, best_class
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class Yolo(BoxLayout):
    """One table per image, a row per place: center, width and height, then the scores of the classes.

    Attributes:
        output: the output with the table.
        rows_last: whether it is `(attributes, rows)`, as YOLO v8 to v11 export it.
        objectness: whether the fifth column multiplies the scores, as in YOLO v5, v7 and X.
        classes: number of score columns; later columns (masks, key points) are not read.
    """

    output: str
    rows_last: bool
    objectness: bool
    classes: int
    name: ClassVar[str] = "yolo"

    @property
    def title(self) -> str:
        """The name that `--decode` takes."""
        return "yolov5" if self.objectness else "yolov8"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The table."""
        return (self.output,)

    def rows(self, outputs: Outputs, size: int) -> Array:
        """Return `(size, rows, attributes)`."""
        table = self.tensor(outputs, self.output, size, 3)
        table = table.swapaxes(1, 2) if self.rows_last else table
        least = 4 + self.objectness + self.classes
        if table.shape[2] < least:
            raise misfit(f"{table.shape[2]} attributes, not {least} or more", "Name another layout.", where=self.name)
        return table

    def corners(self, rows: Array) -> Array:
        """Return the corners of the boxes in `(rows, attributes)`."""
        return from_centers(rows)

    def images(self, outputs: Outputs, size: int) -> Iterator[Found]:
        """Return every place with the best of its classes."""
        first = 4 + self.objectness
        for rows in self.rows(outputs, size):
            scores, classes = best_class(rows[:, first : first + self.classes])
            yield self.corners(rows), scores * rows[:, 4] if self.objectness else scores, classes


@dataclass(frozen=True)
class Yolox(Yolo):
    """YOLOX before decoding: offsets inside a cell and logarithms of sizes, in units of each grid's stride.

    Attributes:
        image: height and width of the input in pixels.
        strides: the strides of the grids, in the order of the rows.
    """

    image: tuple[int, int] = (0, 0)
    strides: tuple[int, ...] = (8, 16, 32)
    name: ClassVar[str] = "yolox"

    @property
    def title(self) -> str:
        """The name that `--decode` takes."""
        return self.name

    def corners(self, rows: Array) -> Array:
        """Return the corners in pixels."""
        grid = cells(self.image, self.strides)
        if len(grid) != len(rows):
            raise misfit(f"{len(rows)} rows for {len(grid)} cells", "Name another layout.", where=self.name)
        with np.errstate(over="ignore"):
            decoded = np.hstack((rows[:, :2] + grid[:, :2], np.exp(rows[:, 2:4]))) * grid[:, 2:]
        return from_centers(decoded)
