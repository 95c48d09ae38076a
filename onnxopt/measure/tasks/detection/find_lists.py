"""Recognition of finished boxes: the graph contains the suppression."""

from collections.abc import Mapping

import numpy as np

from onnxopt.measure.metrics.outputs import is_float
from onnxopt.measure.tasks.detection.evidence import Finding, OutputView, are_corners, whole_numbers, within_one
from onnxopt.measure.tasks.detection.lists import EndToEnd, Lists, Selected
from onnxopt.samples.core import Array


def selected(view: OutputView, named: bool) -> Finding | None:
    """Find YOLO v3's three outputs: boxes, scores, and the numbers that NonMaxSuppression chose."""
    floats = view.floats(3)
    indices = [n for n, v in view.outputs.items() if v.dtype.kind == "i" and v.shape[-1:] == (3,)]
    boxes = [n for n, v in floats.items() if v.shape[2] == 4]
    for name in boxes[:1] if indices else []:
        rows = floats[name].shape[1]
        scores = [n for n, v in floats.items() if n != name and v.shape[2] == rows]
        if scores and (named or within_one(floats[scores[0]])):
            found = Selected(name, scores[0], indices[0])
            return found, f"{indices[0]!r} chooses among the boxes of {name!r}"
    return None


def lists(view: OutputView, named: bool) -> Finding | None:
    """Find finished boxes, scores and classes of equal length, as TensorFlow and torchvision give them."""
    boxes = {n: v for n, v in view.outputs.items() if is_float(v) and v.ndim in (2, 3) and v.shape[-1] == 4}
    for name, value in boxes.items():
        parts = {n: v for n, v in view.outputs.items() if n != name and v.shape == value.shape[:-1]}
        classes = _classes_among(parts)
        scores = [n for n, v in parts.items() if n != classes and is_float(v)]
        scores.sort(key=lambda n: "score" not in n.lower())
        if classes is None or not scores:
            continue
        rows = value.shape[-2]
        images = value.shape[0] if value.ndim == 3 else 1
        counts = [n for n, v in view.outputs.items() if n not in (name, classes, *scores) and _counts(v, images, rows)]
        count = next((n for n in counts if "num" in n.lower()), None)
        evident = _evident(value, view) and (not rows or within_one(parts[scores[0]].astype(np.float64)))
        if named or evident:
            # TensorFlow outputs a count of boxes, and rows before columns; its exporters keep the names.
            tensorflow = count is not None and ("detection" in name.lower() or "num_detections" in count.lower())
            found = Lists(name, scores[0], classes, count, tensorflow)
            return found, f"{name!r}, {scores[0]!r} and {classes!r} have one entry per box"
    return None


def _classes_among(parts: Mapping[str, Array]) -> str | None:
    """Return the output of classes: whole numbers, by type, else by name and value."""
    by_type = [n for n, v in parts.items() if v.dtype.kind in "iu"]
    by_name = [n for n in parts if any(word in n.lower() for word in ("class", "label"))]
    return next((n for n in (*by_type, *by_name) if whole_numbers(parts[n])), None)


def _counts(value: Array, images: int, rows: int) -> bool:
    return value.size == images and value.dtype.kind in "iuf" and whole_numbers(value) and bool((value <= rows).all())


def _evident(boxes: Array, view: OutputView) -> bool:
    """Return whether finished boxes look like boxes; an empty list counts if the graph contains the suppression."""
    return are_corners(boxes.astype(np.float64), view.image) or (
        not boxes.any() and "NonMaxSuppression" in view.facts.operators
    )


def end_to_end(view: OutputView, named: bool) -> Finding | None:
    """Find rows of corners, score and class."""
    for name, rows in view.floats(3).items():
        apart = [n for n, v in view.outputs.items() if v.dtype.kind == "i" and v.shape == rows.shape[:2]]
        if rows.shape[2] == 5 and apart and (named or _finished(rows, view)):
            return EndToEnd(name, apart[0]), f"rows of {name!r} end with a score, and {apart[0]!r} holds classes"
        if rows.shape[2] == 6 and (named or (_finished(rows, view) and whole_numbers(rows[..., 5]))):
            return EndToEnd(name), f"rows of {name!r} are corners, a score and a class"
    for name, rows in view.floats(2).items():
        if rows.shape[1] != 7 or not (len(rows) or named):
            continue
        marked = whole_numbers(rows[:, 0]) and whole_numbers(rows[:, 5])
        if named or (marked and are_corners(rows[:, 1:5], view.image) and within_one(rows[:, 6])):
            return EndToEnd(
                name, numbered=True
            ), f"rows of {name!r} are an image's number, corners, a class and a score"
    return None


def _finished(rows: Array, view: OutputView) -> bool:
    # An image without objects gives rows of zeros, which count if the graph contains the suppression.
    if not rows.any():
        return rows.shape[1] > 1 and "NonMaxSuppression" in view.facts.operators
    boxes = are_corners(rows[..., :4], view.image)
    # One row would be a regression of five or six numbers.
    return boxes and within_one(rows[..., 4]) and rows.shape[1] > 1
