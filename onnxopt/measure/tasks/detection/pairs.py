"""Detectors with an output of boxes and one of class scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, misfit
from onnxopt.measure.tasks.detection.boxes import from_centers
from onnxopt.measure.tasks.detection.layout import BoxLayout, Found, best_class
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class Pair(BoxLayout):
    """One output of boxes and one of class scores, a row per place.

    Attributes:
        boxes: output `(n, rows, 4)`.
        scores: output `(n, rows, classes)`.
        background: position of the background class, such as 0 or -1; None without one.
        centers: whether a box is center, width and height instead of corners.
    """

    boxes: str
    scores: str
    background: int | None
    centers: bool = False
    name: ClassVar[str] = "ssd"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Boxes and scores."""
        return self.boxes, self.scores

    def corners(self, boxes: Array) -> Array:
        """Return the corners of one image's boxes."""
        return from_centers(boxes) if self.centers else boxes

    def probabilities(self, scores: Array) -> Array:
        """Return one image's scores as probabilities."""
        return scores

    def images(self, outputs: Outputs, size: int) -> Iterator[Found]:
        """Return every place with the best of its classes except the background."""
        every_box, every_score = (self.tensor(outputs, name, size, 3) for name in (self.boxes, self.scores))
        if every_box.shape[:2] != every_score.shape[:2]:
            raise misfit("boxes and scores differ in number", "Name another layout with --decode.", where=self.name)
        for boxes, scores in zip(every_box, every_score, strict=True):
            some = self.probabilities(scores)
            some = some if self.background is None else np.delete(some, self.background, axis=1)
            yield self.corners(boxes), *best_class(some)


@dataclass(frozen=True)
class UltraFace(Pair):
    """A pair with boxes relative to the prior boxes of RFB-320, slim-320 and other networks of that family.

    Source: the priors of "Ultra-Light-Fast-Generic-Face-Detector-1MB"; variances as in Liu et al., "SSD", 2016.

    Attributes:
        image: height and width of the input in pixels.
    """

    image: tuple[int, int] = (240, 320)
    name: ClassVar[str] = "ultraface"

    def corners(self, boxes: Array) -> Array:
        """Return the corners in shares of the image."""
        priors = ultraface_priors(*self.image)
        with np.errstate(over="ignore"):
            sizes = priors[:, 2:] * np.exp(boxes[:, 2:] * 0.2)
        return from_centers(np.hstack((priors[:, :2] + boxes[:, :2] * 0.1 * priors[:, 2:], sizes)))


_MIN_BOXES = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))


def ultraface_priors(height: int, width: int) -> Array:
    """Return `(rows, 4)` prior boxes as center, width and height, in shares of the image."""
    parts = []
    for stride, sides in _MIN_BOXES:
        down, across = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(down), np.arange(across), sides, indexing="ij")
        # The cell's share of the image, not of the grid: a last cell may reach beyond the edge.
        centers = ((x + 0.5) * stride / width, (y + 0.5) * stride / height)
        parts.append(np.stack((*centers, side / width, side / height), axis=-1).reshape(-1, 4))
    return np.minimum(np.concatenate(parts), 1.0)


@dataclass(frozen=True)
class Detr(Pair):
    """A pair of logits and boxes of queries, one per object.

    Attributes:
        softmax: whether the classes exclude each other and the last means "no object"; else each has its own sigmoid.
    """

    softmax: bool = True
    name: ClassVar[str] = "detr"
    overlapping: ClassVar[bool] = False

    def probabilities(self, scores: Array) -> Array:
        """Return softmax or sigmoid of the logits."""
        with np.errstate(over="ignore", invalid="ignore"):
            if not self.softmax:
                return np.asarray(1 / (1 + np.exp(-scores)))
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
