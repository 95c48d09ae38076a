"""Segmentation against masks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, chosen, is_float, misfit
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.tasks.overlap import class_rows, intersection_over_union, mask_rows, mean_present, resampled
from onnxopt.measure.tasks.segmentation.maps import MapReading, class_axis
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class SegmentationMetric(Metric):
    """Mean IoU over classes, or the share of right pixels, over the pixels of all images.

    Labels are masks of class numbers `(n, H, W)`; numbers of no class (255, -1) are left out. Labels of binary maps are
    0 and 1, `(n, H, W)` or one map per class. If the size of masks is a multiple of the output's size, the output is
    enlarged by repetition.

    Source: Everingham et al., "The Pascal visual object classes challenge: a retrospective", 2015.

    Attributes:
        name: `miou` or `pixel-accuracy`.
        output: output with the map; None takes the first that fits.
        label_offset: subtracted from a predicted class before comparing.
        threshold: lowest probability of an element that belongs to a binary map.
        reading: reading of the output; None before `prepared`.
    """

    name: Literal["miou", "pixel-accuracy"]
    output: str | None = None
    label_offset: int = 0
    threshold: float = 0.5
    reading: MapReading | None = None
    unit: ClassVar[str] = "share"
    bounded: ClassVar[bool] = True
    undefined: ClassVar[str] = "Give masks that hold classes of the model."

    def prepared(self, outputs: Outputs, labels: Array, notes: Mapping[str, str] | None = None) -> Metric:
        """Return the metric with the output and its axis of classes fixed.

        Raises:
            DataError: ONX209 no output is a map.
        """
        name = self.output or next((key for key, value in outputs.items() if np.ndim(value) in (3, 4)), None)
        if name is None:
            raise misfit("no output is a map", f"Outputs: {', '.join(outputs)}.", where=self.name)
        return replace(self, output=name, reading=reading_of(chosen(outputs, name), self.threshold, labels))

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 2 + 3 * classes)` counts, see `onnxopt.measure.tasks.overlap`."""
        if self.reading is None or self.output is None:
            return self.prepared(outputs, labels).rows(outputs, labels)
        value = chosen(outputs, self.output)
        truth = np.asarray(labels)
        found = enlarged(self.reading.labels(value), self.reading.size(value), truth.shape[-2:])
        if self.reading.kind == "binary":
            shape = (len(found), found.shape[1], -1)
            truth = truth.reshape(shape) if truth.size == found.size else truth
            if truth.shape != found.shape:
                raise self._misfit(truth, np.shape(value))
            return mask_rows(truth > 0, found)
        if truth.ndim == 4 and 1 in (truth.shape[1], truth.shape[3]):
            truth = truth.reshape(len(truth), -1)
        truth = truth.reshape(len(truth), -1)
        if truth.shape != found.shape or truth.dtype.kind not in "iub":
            raise self._misfit(np.asarray(labels), np.shape(value))
        return class_rows(truth.astype(np.int64), found.astype(np.int64) - self.label_offset, self._classes(value))

    def _classes(self, value: Array) -> int:
        return 0 if self.reading is None else self.reading.classes(value)

    def _misfit(self, labels: Array, shape: tuple[int, ...]) -> Exception:
        why = f"labels {labels.dtype} of shape {list(labels.shape)} for an output of shape {list(shape)}"
        return misfit(why, "Give one class number per pixel, at the size of the output.", where=self.name)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the figure of resampled images; NaN if they hold no class."""
        total = resampled(rows, counts)
        if self.name == "miou":
            return mean_present(intersection_over_union(total), float("nan"))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total.equal / total.elements)


def enlarged(found: Array, size: tuple[int, ...], wanted: tuple[int, ...]) -> Array:
    """Return maps `(..., H * W)`, enlarged by repetition if the wanted size is a multiple of theirs; else unchanged."""
    if size == wanted or len(wanted) != 2 or 0 in size or any(w % s for w, s in zip(wanted, size, strict=True)):
        return found
    height, width = (w // s for w, s in zip(wanted, size, strict=True))
    maps = found.reshape(*found.shape[:-1], *size).repeat(height, axis=-2).repeat(width, axis=-1)
    return np.asarray(maps.reshape(*found.shape[:-1], -1))


def reading_of(value: Array, threshold: float = 0.5, labels: Array | None = None) -> MapReading:
    """Return the reading of a map, by its type, shape and values."""
    if not is_float(value):
        return MapReading("classes")
    sizes: tuple[tuple[int, int], ...] = ()
    if labels is not None and np.ndim(labels) == 3:
        sizes = ((int(labels.shape[1]), int(labels.shape[2])),)
    axis = class_axis(np.shape(value), sizes)
    if np.ndim(value) == 3 or np.shape(value)[axis] == 1:
        return MapReading("binary", axis, score_at(value, threshold))
    return MapReading("scores", axis)


def score_at(value: Array, threshold: float) -> float:
    """Return the score of the probability `threshold`: the same, or its logit if scores are not probabilities."""
    finite = value[np.isfinite(value)]
    probabilities = not finite.size or (finite.min() >= 0 and finite.max() <= 1)
    return threshold if probabilities or not 0 < threshold < 1 else float(np.log(threshold / (1 - threshold)))
