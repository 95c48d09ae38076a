"""Agreement of two detectors: the boxes that the baseline finds are the truth."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.measure.tasks.detection.average_precision import average_precision, records_array
from onnxopt.measure.tasks.detection.layout import BoxLayout
from onnxopt.measure.tasks.detection.matching import Truth, effective_images, record_of
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

ALLOWED_FALL = 0.8
"""Lowest score of a candidate's boxes that count, as a share of the score threshold.

A box whose score falls a little below the threshold is not lost; a box a fifth below it is, because users of the model
keep their threshold.
"""


@dataclass(frozen=True)
class DetectionAgreement(Comparison):
    """Average precision of the candidate's boxes, with the baseline's boxes as the truth.

    AP@[.5:.95], because a box 1.5 times as wide still overlaps by two thirds. Boxes of classes that the baseline never
    finds, which COCO leaves out, reduce the result by their share of all boxes.

    Attributes:
        layout: layout of the outputs.
        score_threshold: lowest score of the baseline's boxes.
        nms_iou: overlap threshold of the suppression.
    """

    layout: BoxLayout
    score_threshold: float = 0.25
    nms_iou: float = 0.45
    output: str | None = None
    name = "AP@[.5:.95] of the baseline's boxes"
    unit: ClassVar[str] = "share"
    most_lost: ClassVar[float | None] = 1.0
    undefined: ClassVar[str] = (
        "The baseline finds no box in them: give samples with objects, a lower --score-threshold, or --task regression."
    )

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 1)` objects, the record of each image.

        Raises:
            DataError: ONX209 the outputs do not have the layout.
        """
        least = ALLOWED_FALL * self.score_threshold
        one = self.layout.detections(before, size, least=self.score_threshold, iou=self.nms_iou)
        other = self.layout.detections(after, size, least=least, iou=self.nms_iou)
        return records_array([record_of(found, Truth.found_by(truth)) for truth, found in zip(one, other, strict=True)])

    def telling(self, rows: Array) -> int:
        """Return the effective number of images in which the baseline finds boxes."""
        return effective_images(rows[:, 0])

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the average precision, times the share of boxes that belong to the baseline's classes."""
        records = rows[:, 0]
        known = {c for record in records for c, matched in record.items() if matched.wanted}
        there, invented = np.zeros(len(records)), np.zeros(len(records))
        for i, record in enumerate(records):
            for c, matched in record.items():
                there[i] += matched.wanted
                if c not in known:
                    invented[i] += (matched.scores >= self.score_threshold).sum()
        boxes, strange = counts @ there, counts @ invented
        share = np.divide(boxes, boxes + strange, out=np.ones(len(counts)), where=boxes + strange > 0)
        return np.asarray(average_precision(records, counts, slice(None)) * share)
