"""Boxes of one image: their overlap, and the suppression of duplicates."""

from dataclasses import dataclass, field

import numpy as np

from onnxopt.samples.core import Array

MOST_CONSIDERED, MOST_KEPT = 3000, 300
"""Most boxes of an image before and after suppression: the usual limits of exported detectors."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes found in one image, highest score first.

    Attributes:
        boxes: `(k, 4)`, left, top, right, bottom, in the model's own unit.
        scores: `(k,)`.
        classes: `(k,)` whole numbers.
    """

    boxes: Array = field(repr=False)
    scores: Array = field(repr=False)
    classes: Array = field(repr=False)

    @classmethod
    def of(cls, boxes: Array, scores: Array, classes: Array, least: float) -> "Detections":
        """Return the boxes with a score of at least `least`, without boxes that are not finite or have no area."""
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        scores = np.asarray(scores, dtype=np.float64).reshape(-1)
        classes = np.asarray(classes, dtype=np.float64).reshape(-1)
        with np.errstate(invalid="ignore"):
            real = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            kept = np.flatnonzero((scores >= least) & real & np.isfinite(classes))
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        return cls(boxes[kept], scores[kept], classes[kept].astype(np.int64))

    def take(self, places: Array) -> "Detections":
        """Return the boxes at `places`, which are indices or a mask."""
        return Detections(self.boxes[places], self.scores[places], self.classes[places])

    def __len__(self) -> int:
        return len(self.scores)


def from_centers(values: Array) -> Array:
    """Return corners of boxes given as center x, center y, width and height, `(..., 4)`."""
    center, half = values[..., :2], values[..., 2:4] / 2
    return np.concatenate((center - half, center + half), axis=-1)


def overlaps(boxes: Array, others: Array, crowd: Array | None = None) -> Array:
    """Return `(boxes, others)` intersections over unions; over the area of the box alone where the other is a crowd.

    Source: Lin et al., "Microsoft COCO: common objects in context", 2014, as in its evaluation code.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.maximum(high - low, 0).prod(axis=2)
    mine, theirs = _areas(boxes)[:, None], _areas(others)[None]
    whole = mine + theirs - both
    if crowd is not None:
        whole = np.where(crowd[None], mine, whole)
    return np.asarray(np.divide(both, whole, out=np.zeros_like(both), where=whole > 0))


def _areas(boxes: Array) -> Array:
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1))


def suppressed(found: Detections, iou: float) -> Detections:
    """Return the boxes that overlap no kept box of their class by more than `iou` (greedy suppression by score)."""
    found = found.take(np.arange(min(len(found), MOST_CONSIDERED)))
    alive = np.arange(len(found))
    kept: list[int] = []
    while len(alive) and len(kept) < MOST_KEPT:
        best, rest = alive[0], alive[1:]
        kept.append(int(best))
        near = overlaps(found.boxes[best : best + 1], found.boxes[rest])[0] > iou
        alive = rest[~(near & (found.classes[rest] == found.classes[best]))]
    return found.take(np.array(kept, dtype=np.int64))
