"""Average precision against labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, misfit
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.tasks.detection.agreement import ALLOWED_FALL
from onnxopt.measure.tasks.detection.average_precision import average_precision, records_array
from onnxopt.measure.tasks.detection.boxes import Detections
from onnxopt.measure.tasks.detection.evidence import OutputView
from onnxopt.measure.tasks.detection.layout import BoxLayout
from onnxopt.measure.tasks.detection.matching import Record, Truth, effective_images, record_of
from onnxopt.measure.tasks.detection.recognition import LAYOUTS, find, named_layout
from onnxopt.measure.tasks.task import ModelFacts
from onnxopt.samples.boxes import ImageBoxes
from onnxopt.samples.core import Array

LEAST_SCORE = 0.001
"""Lowest score of boxes compared with labels: as usual, it keeps nearly the whole precision-recall curve."""


@dataclass(frozen=True)
class Reading:
    """The reading of a model's outputs.

    Attributes:
        layout: layout of the outputs.
        pixels: whether boxes are in pixels of the input, not in shares of it.
    """

    layout: BoxLayout
    pixels: bool


@dataclass(frozen=True)
class AveragePrecision(Metric):
    """COCO's average precision, the mean over classes.

    Attributes:
        name: `ap` for the mean over the overlaps 0.5 to 0.95, `ap50` for 0.5 alone.
        output: unused, because a layout names its outputs.
        label_offset: subtracted from a model's class before comparing: 1 where its class 0 means background.
        nms_iou: overlap threshold of the suppression.
        decode: name of the layout; None recognizes it.
        reading: reading of the baseline's outputs; None before `prepared`.
        score_threshold: lowest score of a box that a user would see, see `changes`.
    """

    name: str
    output: str | None = None
    label_offset: int = 0
    nms_iou: float = 0.45
    decode: str | None = None
    reading: Reading | None = None
    score_threshold: float = 0.25
    unit: ClassVar[str] = "share"
    bounded: ClassVar[bool] = True
    most_lost: ClassVar[float | None] = 1.0
    undefined: ClassVar[str] = "No image has a labelled box: give images of objects."

    def prepared(self, outputs: Outputs, labels: Array, notes: Mapping[str, str] | None = None) -> "AveragePrecision":
        """Return the metric with the reading of these outputs.

        Raises:
            UsageError: ONX102 no layout has the name in `decode`.
            DataError: ONX209 labels are not boxes, or the outputs have no known layout.
        """
        if self.reading is not None:
            return self
        truth = _boxes(labels, self.name)
        view = OutputView.of(outputs, truth[0].size, ModelFacts(metadata=notes or {}))
        found = find(view) if self.decode is None else named_layout(view, self.decode)
        if found is None:
            hint = f"Name the layout with --decode: {', '.join(LAYOUTS)}."
            raise misfit("the outputs have no known layout of boxes", hint, where=self.name)
        everywhere = [boxes for boxes, _, _ in found[0].images(outputs, len(truth)) if boxes.size]
        pixels = bool(everywhere) and bool(np.nanmax(np.abs(np.concatenate(everywhere))) > 2)
        return replace(self, reading=Reading(found[0], pixels))

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 1)` objects, the record of each image; raises like `prepared` and the layout."""
        truth = _boxes(labels, self.name)
        reading = self.reading or self.prepared(outputs, labels).reading
        if reading is None:
            raise AssertionError("a prepared metric knows how outputs are read")
        found = reading.layout.detections(outputs, len(truth), least=LEAST_SCORE, iou=self.nms_iou)
        pairs = zip(found, truth, strict=True)
        return records_array([self._record(one, there, reading.pixels) for one, there in pairs])

    def _record(self, found: Detections, there: ImageBoxes, pixels: bool) -> Record:
        height, width = there.size if pixels else (1, 1)
        scaled = Detections(
            found.boxes / [width, height, width, height], found.scores, found.classes - self.label_offset
        )
        return record_of(scaled, Truth(there.boxes, there.classes, there.ignored, there.crowd))

    def telling(self, rows: Array) -> int:
        """Return the effective number of images with labelled boxes."""
        return effective_images(rows[:, 0])

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the average precision of resampled images."""
        return average_precision(rows[:, 0], counts, slice(None) if self.name == "ap" else slice(0, 1))

    def changes(self, before: Array, after: Array) -> tuple[Array, Array]:
        """Return the additional errors of each image at the score threshold, and its number of labelled boxes.

        Errors are missed labelled boxes and wrong boxes, at an overlap of 0.5. Average precision depends only on the
        order of scores and does not notice if all scores fall. A box near the threshold is no error of the candidate.
        """
        low, high = ALLOWED_FALL * self.score_threshold, self.score_threshold
        more = [_errors(b, low, high) - _errors(a, high, low) for a, b in zip(before[:, 0], after[:, 0], strict=True)]
        wanted = [sum(matched.wanted for matched in record.values()) for record in before[:, 0]]
        return np.array(more, dtype=np.float64), np.array(wanted, dtype=np.float64)


def _errors(record: Record, found: float, wrong: float) -> int:
    """Return the number of labelled boxes missed above the score `found`, and of wrong ones above the score `wrong`."""
    count = 0
    for one in record.values():
        right, ignored = one.right[0], one.ignored[0]
        count += one.wanted - int((right & (one.scores >= found)).sum())
        count += int((~right & ~ignored & (one.scores >= wrong)).sum())
    return count


def _boxes(labels: Array, name: str) -> list[ImageBoxes]:
    found = [label for label in labels if isinstance(label, ImageBoxes)]
    if not len(labels) or len(found) != len(labels):
        hint = "Give boxes with --labels: COCO JSON, or a folder of YOLO .txt or Pascal VOC .xml files."
        raise misfit("the labels are not boxes", hint, where=name)
    return found
