"""Detectors with finished boxes: the model contains the suppression."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, chosen
from onnxopt.measure.tasks.detection.layout import BoxLayout, Found


@dataclass(frozen=True)
class EndToEnd(BoxLayout):
    """One row per object: corners, score and class; the model contains the suppression.

    Attributes:
        output: `(n, rows, 6)`, or `(rows, 7)` where each row begins with the number of its image.
        classes: output with the classes if rows end with the score; None if the rows hold them.
        numbered: whether a row begins with the number of its image, and the class comes before the score.
    """

    output: str
    classes: str | None = None
    numbered: bool = False
    name: ClassVar[str] = "end2end"
    overlapping: ClassVar[bool] = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """The output of rows, and the output of classes if there is one."""
        return (self.output,) if self.classes is None else (self.output, self.classes)

    def images(self, outputs: Outputs, size: int) -> Iterator[Found]:
        """Return the rows of each image."""
        if self.numbered:
            rows = np.asarray(chosen(outputs, self.output), dtype=np.float64)
            for image in range(size):
                own = rows[rows[:, 0] == image]
                yield own[:, 1:5], own[:, 6], own[:, 5]
            return
        every = self.tensor(outputs, self.output, size, 3)
        apart = None if self.classes is None else self.tensor(outputs, self.classes, size, 2)
        for image, rows in enumerate(every):
            yield rows[:, :4], rows[:, 4], rows[:, 5] if apart is None else apart[image]


@dataclass(frozen=True)
class Lists(BoxLayout):
    """Boxes, scores and classes in separate outputs, one entry per object; the model contains the suppression.

    Attributes:
        boxes: output `(n, rows, 4)`, or `(rows, 4)` of one image.
        scores: output `(n, rows)`.
        classes: output `(n, rows)`.
        count: output with the number of used rows of each image; None if all are used.
        rows_first: whether a box is top, left, bottom, right, as in TensorFlow.
    """

    boxes: str
    scores: str
    classes: str
    count: str | None = None
    rows_first: bool = False
    name: ClassVar[str] = "lists"
    overlapping: ClassVar[bool] = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """The three or four outputs."""
        return self.boxes, self.scores, self.classes, *(() if self.count is None else (self.count,))

    def images(self, outputs: Outputs, size: int) -> Iterator[Found]:
        """Return the used rows of each image."""
        boxes = self.tensor(outputs, self.boxes, size, 3)
        scores, classes = (self.tensor(outputs, name, size, 2) for name in (self.scores, self.classes))
        used = [boxes.shape[1]] * size
        if self.count is not None:
            used = np.asarray(chosen(outputs, self.count)).reshape(-1).astype(int).tolist()
        for image in range(size):
            rows = slice(max(used[image], 0))
            corners = boxes[image, rows][:, [1, 0, 3, 2]] if self.rows_first else boxes[image, rows]
            yield corners, scores[image, rows], classes[image, rows]


@dataclass(frozen=True)
class Selected(BoxLayout):
    """All boxes and scores, and the (image, class, box) numbers that NonMaxSuppression chose.

    Attributes:
        boxes: output `(n, rows, 4)`, top, left, bottom, right.
        scores: output `(n, classes, rows)`.
        indices: output `(chosen, 3)`.
    """

    boxes: str
    scores: str
    indices: str
    name: ClassVar[str] = "selected"
    overlapping: ClassVar[bool] = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Boxes, scores and indices."""
        return self.boxes, self.scores, self.indices

    def images(self, outputs: Outputs, size: int) -> Iterator[Found]:
        """Return the chosen boxes of each image."""
        boxes, scores = (self.tensor(outputs, name, size, 3) for name in (self.boxes, self.scores))
        picked = np.asarray(chosen(outputs, self.indices)).reshape(-1, 3).astype(np.int64)
        for image in range(size):
            _, classes, rows = picked[picked[:, 0] == image].T
            yield boxes[image, rows][:, [1, 0, 3, 2]], scores[image, classes, rows], classes
