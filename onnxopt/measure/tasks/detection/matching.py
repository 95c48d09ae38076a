"""Matching of boxes and labels in one image, as in COCO's evaluation, for one class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.measure.tasks.detection.boxes import Detections, overlaps
from onnxopt.samples.core import Array

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlap thresholds of a right box: COCO's ten."""
MOST_OF_A_CLASS = 100
"""Most boxes of one class and image: COCO's limit."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Labelled boxes of one image.

    Attributes:
        boxes: `(k, 4)` corners, in the unit of the detections.
        classes: `(k,)` whole numbers.
        ignored: `(k,)`, whether a match with the box is neither right nor wrong.
        crowd: `(k,)`, whether one box stands for many objects; crowds are ignored too.
    """

    boxes: Array = field(repr=False)
    classes: Array = field(repr=False)
    ignored: Array = field(repr=False)
    crowd: Array = field(repr=False)

    @classmethod
    def found_by(cls, found: Detections) -> "Truth":
        """Return a model's detections as the truth for another model."""
        none = np.zeros(len(found), dtype=bool)
        return cls(found.boxes, found.classes, none, none)


@dataclass(frozen=True, eq=False)
class Matched:
    """The contribution of one class of one image to the average precision.

    Attributes:
        scores: `(d,)`, scores of the boxes found.
        right: `(thresholds, d)`, whether a box is right.
        ignored: `(thresholds, d)`, whether a box is neither right nor wrong.
        wanted: number of labelled boxes.
    """

    scores: Array = field(repr=False)
    right: Array = field(repr=False)
    ignored: Array = field(repr=False)
    wanted: int


Record = Mapping[int, Matched]
"""An image's `Matched` by class."""


def effective_images(records: Iterable[Record]) -> int:
    """Return the number of images with equally many boxes that would prove as much; images without boxes do not count.

    Source: Kish, "Survey Sampling", 1965: the square of the sum of the weights over the sum of their squares.
    """
    boxes = np.array([sum(matched.wanted for matched in record.values()) for record in records], dtype=np.float64)
    return round(float(boxes.sum() ** 2 / max((boxes**2).sum(), 1.0)))


def record_of(found: Detections, truth: Truth, thresholds: Array = THRESHOLDS) -> Record:
    """Return the assignment of each class among the found and the labelled boxes."""
    classes = np.union1d(found.classes, truth.classes)
    return {int(c): _matched(found.take(found.classes == c), truth, truth.classes == c, thresholds) for c in classes}


def _matched(found: Detections, truth: Truth, own: Array, thresholds: Array) -> Matched:
    """Assign each box, highest score first, the free box of the truth that it overlaps most; ignored ones come last."""
    order = np.argsort(truth.ignored[own], kind="stable")
    boxes, ignored, crowd = (part[own][order] for part in (truth.boxes, truth.ignored, truth.crowd))
    found = found.take(np.arange(min(len(found), MOST_OF_A_CLASS)))
    shares = overlaps(found.boxes, boxes, crowd)
    # One row per threshold, because the free boxes differ.
    free = np.ones((len(thresholds), len(boxes)), dtype=bool)
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]
    right = np.zeros((len(thresholds), len(found)), dtype=bool)
    passed = np.zeros_like(right)
    rows = np.arange(len(thresholds))
    for place, share in enumerate(shares):
        open_to = (free | crowd) & (share >= least)
        for kind, out in ((~ignored, right), (ignored, passed)):
            # Of equal overlaps the last wins, as in COCO's loop; ignored boxes match only if no other does.
            fits = np.where(open_to & kind, share, -1.0)
            chosen = fits.shape[1] - 1 - fits[:, ::-1].argmax(axis=1) if fits.shape[1] else rows * 0
            hit = (fits.max(axis=1, initial=-1.0) >= 0) & ~right[:, place]
            out[:, place] = hit
            free[rows[hit], chosen[hit]] = False
    return Matched(found.scores, right, passed, int((~ignored).sum()))
