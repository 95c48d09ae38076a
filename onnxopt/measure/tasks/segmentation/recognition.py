"""Recognition of segmentation by evidence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, are_probabilities, is_float
from onnxopt.measure.tasks.evidence import ends_of, image_sizes, named_like, only_output
from onnxopt.measure.tasks.segmentation.agreement import SegmentationAgreement
from onnxopt.measure.tasks.segmentation.maps import MapReading, class_axis
from onnxopt.measure.tasks.segmentation.metric import reading_of, score_at
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds

_NAMES = ("mask", "seg", "semantic", "parsing")


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return segmentation of the first output with a map of classes in the proportions of an input image; else None."""
    sizes = image_sizes(feeds)
    if not sizes:
        return None
    for name, value in outputs.items():
        found = _found(name, value, sizes, ends_of(facts, name), options)
        if found is not None:
            reading, reason = found
            return Recognized("segmentation", (name,), SegmentationAgreement(name, reading), reason)
    return None


def comparison(
    outputs: Outputs, names: Sequence[str], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> SegmentationAgreement:
    """Return the comparison of two segmentations, requested by the user.

    Raises:
        DataError: ONX209 no output is a map.
    """
    name = only_output(outputs, names, lambda value: np.ndim(value) in (3, 4), "a map")
    sizes = image_sizes(feeds or {})
    found = _found(name, outputs[name], sizes, ends_of(facts, name), options) if sizes else None
    return SegmentationAgreement(name, found[0] if found else reading_of(outputs[name], options.map_threshold))


def _found(
    name: str, value: Any, sizes: tuple[tuple[int, int], ...], ends: tuple[str, ...], options: TaskOptions
) -> tuple[MapReading, str] | None:
    array = np.asarray(value)
    if not is_float(array):
        if array.dtype.kind in "iu" and array.ndim in (3, 4) and _spatial(array.shape, 1, sizes) == 1:
            return MapReading("classes"), f"{name!r} holds a class number for every pixel"
        return None
    if array.ndim != 4:
        return None
    axis = class_axis(array.shape, sizes)
    stride = _spatial(array.shape, axis, sizes)
    if stride is None or not array.size:
        return None
    classes = array.shape[axis]
    where = f"{name!r} has the proportions of the image"
    shares = bool(array.min() >= 0 and array.max() <= 1)
    if shares and ends[:1] == ("Sigmoid",) and (classes == 1 or stride == 1):
        return MapReading("binary", axis, options.map_threshold), f"{where} and ends in Sigmoid"
    if classes == 1:
        if named_like(name, _NAMES):
            return MapReading("binary", axis, score_at(array, options.map_threshold)), f"{where} and is called so"
        return None
    reason = _scores_classes(name, array, axis, ends, full_size=stride == 1)
    return (MapReading("scores", axis), reason) if reason else None


def _scores_classes(name: str, array: np.ndarray, axis: int, ends: tuple[str, ...], *, full_size: bool) -> str:
    """Return the evidence that the map holds scores of several classes; empty without any."""
    classes = array.shape[axis]
    where = f"{name!r} has the proportions of the image"
    if set(ends[:1]) & {"Softmax", "LogSoftmax"} and _sums_to_one(array, axis):
        return f"{where} and holds probabilities of {classes} classes"
    if are_probabilities(np.moveaxis(array, axis, -1)):
        return f"every pixel of {name!r} holds probabilities of {classes} classes"
    # Logits look like any map of features: the evidence is their name, or full size with more channels than colours.
    if named_like(name, _NAMES):
        return f"{where} and is called so"
    if full_size and (classes == 2 or classes > 4) and ends[:1] in (("Conv",), ("Resize",), ("ConvTranspose",)):
        return f"{name!r} holds {classes} scores for every pixel of the image"
    return ""


def _sums_to_one(array: np.ndarray, axis: int) -> bool:
    """Return whether probabilities, or the exponentials of their logarithms, add up to 1 over the classes."""
    shares = array if array.min() >= 0 else np.exp(np.minimum(array, 0.0))
    return are_probabilities(np.moveaxis(shares, axis, -1))


def _spatial(shape: tuple[int, ...], axis: int, sizes: tuple[tuple[int, int], ...]) -> float | None:
    """Return the factor by which a map is smaller than an input image in both directions; None if the two differ."""
    if len(shape) == 3:
        height, width = shape[1:3]
    else:
        height, width = shape[2:4] if axis == 1 else shape[1:3]
    for rows, columns in sizes:
        if height > 1 and width > 1 and abs(rows / height - columns / width) < 0.1:
            return 1.0 if (height, width) == (rows, columns) else rows / height
    return None
