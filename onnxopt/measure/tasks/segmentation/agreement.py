"""Agreement of two segmentations."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, chosen
from onnxopt.measure.tasks.overlap import class_rows, intersection_over_union, kept, lost_rows, mask_rows, resampled
from onnxopt.measure.tasks.segmentation.maps import MapReading
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class SegmentationAgreement(Comparison):
    """Mean intersection over union with the baseline's classes, over the pixels of all images.

    The score is at most twice the IoU of the worst class, so that a lost class counts for any number of classes.
    Classes that the baseline finds in less than 0.01 % of all pixels do not count on their own. One image is one
    sample, because pixels of an image are not independent.

    Attributes:
        output: output with the map.
        reading: reading of the map.
    """

    output: str
    reading: MapReading
    name = "mIoU with the baseline"
    unit: ClassVar[str] = "share"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 2 + 3 * classes)`: equal pixels, all pixels; per class the overlap and each model's pixels."""
        one, other = chosen(before, self.output), chosen(after, self.output)
        truth = self.reading.labels(one)
        classes = self.reading.classes(one)
        if np.shape(one) != np.shape(other):
            return lost_rows(self._rows(truth, truth, classes))
        return self._rows(truth, self.reading.labels(other), classes)

    def _rows(self, truth: Array, found: Array, classes: int) -> Array:
        return mask_rows(truth, found) if self.reading.kind == "binary" else class_rows(truth, found, classes)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of the baseline's classes that is kept."""
        return kept(rows, counts)

    def details(self, rows: Array) -> dict[str, float]:
        """Return the share of equal pixels and the worst class's IoU."""
        total = resampled(rows, np.ones((1, len(rows))))
        iou = intersection_over_union(total)[0][total.before[0] > 0]
        worst = {"IoU of the worst class": float(iou.min())} if iou.size else {}
        return {"pixel agreement": float(total.equal[0] / max(total.elements[0], 1)), **worst}
