"""Recognition of a YOLO's table: the first attributes of a place are a box, the others probabilities."""

import numpy as np

from onnxopt.measure.metrics.outputs import are_probabilities
from onnxopt.measure.tasks.detection.evidence import (
    FEWEST_ROWS,
    Finding,
    Image,
    OutputView,
    are_centers,
    cells,
    follow_cells,
    grids,
    within_one,
)
from onnxopt.measure.tasks.detection.tables import Yolo, Yolox
from onnxopt.samples.core import Array

Places = list[tuple[int, tuple[int, ...]]]
_PROTOTYPES = 32
"""Mask coefficients per row of a YOLO for segmentation."""


def yolo(view: OutputView, named: bool, objectness: bool | None = None, raw: bool | None = None) -> Finding | None:
    """Find the table, decoded or raw as in YOLOX.

    Args:
        view: outputs of the baseline.
        named: whether the user named the layout, so that no evidence is needed.
        objectness: whether there is a column of objectness; None decides by the table.
        raw: whether boxes are offsets in grids; None decides by the table.
    """
    for name, table in view.floats(3).items():
        for rows_last in (True, False):
            rows = table.swapaxes(1, 2) if rows_last else table
            count, attributes = rows.shape[1:]
            if attributes < 5 or attributes >= count or count < FEWEST_ROWS:
                continue
            if not named and not (_scored(rows, view) and not are_probabilities(rows)):
                continue
            places = list(grids(count, view.image))
            found = None if raw is False else _raw(name, rows, rows_last, places, view, sure=raw is True)
            if found is None and raw is not True and (named or _decoded(rows[..., :4], view.image, bool(places))):
                found = _table(name, attributes, rows_last, places, view=view, objectness=objectness)
            if found is not None:
                return found
    return None


def _scored(rows: Array, view: OutputView) -> bool:
    """Return whether all attributes in the place of scores lie between 0 and 1."""
    return within_one(rows[..., 4 : max(_end(view, rows.shape[2]), 5)])


def _raw(name: str, rows: Array, rows_last: bool, places: Places, view: OutputView, *, sure: bool) -> Finding | None:
    strides = next((strides for per_cell, strides in places if per_cell == 1), None)
    if view.image is None or strides is None or rows.shape[2] < 6:
        return None
    if not sure and not _is_raw(rows[..., :4], cells(view.image, strides)):
        return None
    found = Yolox(name, rows_last, True, rows.shape[2] - 5, view.image, strides)
    return found, f"rows of {name!r} fill grids of strides {_words(strides)} and are not decoded"


def _table(
    name: str, attributes: int, rows_last: bool, places: Places, *, view: OutputView, objectness: bool | None
) -> Finding | None:
    per_cell = places[0][0] if places else 1
    five = _has_objectness(view, attributes, per_cell, rows_last) if objectness is None else objectness
    classes = _end(view, attributes) - 4 - five
    if classes < 1:
        return None
    reason = f"{'columns' if rows_last else 'rows'} of {name!r} are a box, {'an objectness and ' * five}"
    reason += f"{classes} class score{'s' * (classes != 1)}"
    reason += f", and fill grids of strides {_words(places[0][1])}" if places else ""
    return Yolo(name, rows_last, five, classes), reason


def _decoded(boxes: Array, image: Image, in_grids: bool) -> bool:
    """Return whether boxes are centers and sizes; for rows that fill grids, positive sizes in pixels are enough."""
    pixels = bool(boxes.max() > 2)
    if in_grids and pixels and (boxes[..., 2:] >= 0).mean() >= 0.99:
        return True
    return (in_grids or pixels) and are_centers(boxes, image)


def _is_raw(boxes: Array, grid: Array) -> bool:
    """Return whether boxes are offsets within cells and logarithms of sizes: small numbers, not where their cells are.

    Shares of an image lie between 0 and 1; of offsets and logarithms some do not, even if all objects are large.
    """
    small = np.quantile(np.abs(boxes), 0.99) < 20
    shares = ((boxes >= -0.05) & (boxes <= 1.05)).mean() > 0.99
    return bool(small and not shares and not follow_cells(boxes[..., :2], grid))


def _end(view: OutputView, attributes: int) -> int:
    """Return the end of the attributes that are scores."""
    masks = any(value.shape[1] == _PROTOTYPES for value in view.floats(4).values())
    names = view.class_names()
    if names is not None and attributes >= 4 + names:
        return 4 + names + (attributes - 4 - names == 1)
    return attributes - _PROTOTYPES if masks and attributes > 5 + _PROTOTYPES else attributes


def _has_objectness(view: OutputView, attributes: int, per_cell: int, rows_last: bool) -> bool:
    names = view.class_names()
    if names is not None:
        return _end(view, attributes) == 5 + names
    # Three anchors per cell are YOLO v5 and v7. With one, rows across are v8; rows down may be YOLOX, of COCO's 80.
    return per_cell == 3 or (not rows_last and attributes == 85)


def _words(strides: tuple[int, ...]) -> str:
    return ", ".join(map(str, strides))
