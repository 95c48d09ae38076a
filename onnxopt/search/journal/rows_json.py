"""Conversion of a score's rows to JSON and back: numbers, several outputs per sample, boxes per class."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxopt.measure.tasks.detection.matching import Matched
from onnxopt.samples.core import Array

_MOST_NESTED = 3
"""Levels of rows within rows: those of a sample, of an output, of its boxes."""


def stored_rows(rows: Array) -> Any:
    """Return rows as JSON-ready data; None if they hold whole outputs, as those of a user's own metric do."""
    try:
        return _stored(rows)
    except TypeError:
        return None


def restored_rows(found: Any) -> Array:
    """Return rows from `stored_rows`.

    Raises:
        ValueError, KeyError, TypeError: the data is damaged.
    """
    rows = _restored(found, _MOST_NESTED)
    if not isinstance(rows, np.ndarray):
        raise ValueError("no rows")
    return rows


def _stored(value: object) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        cells = list(value.flat)
        if cells and all(_alike(cell, cells[0]) for cell in cells):
            # One array for all of them: a header for each would be longer than its numbers.
            return {"shape": list(value.shape), "stack": _text(np.stack(cells))}
        return {"shape": list(value.shape), "cells": [_stored(cell) for cell in cells]}
    if isinstance(value, np.ndarray):
        return _text(value)
    if isinstance(value, Mapping) and all(isinstance(one, Matched) for one in value.values()):
        return {"boxes": [[int(c), *map(_text, (m.scores, m.right, m.ignored)), m.wanted] for c, m in value.items()]}
    raise TypeError(f"rows of {type(value).__name__}")


def _alike(cell: object, first: object) -> bool:
    both = isinstance(cell, np.ndarray) and isinstance(first, np.ndarray)
    return both and not cell.dtype.hasobject and (cell.dtype, cell.shape) == (first.dtype, first.shape)  # type: ignore[attr-defined]


def _restored(found: Any, levels: int) -> Any:
    if levels < 0:
        raise ValueError("rows within too many rows")
    if isinstance(found, str):
        return _array(found)
    if "boxes" in found:
        return {
            int(c): Matched(_array(scores), _array(right), _array(ignored), int(wanted))
            for c, scores, right, ignored, wanted in found["boxes"]
        }
    cells = list(_array(found["stack"])) if "stack" in found else [_restored(c, levels - 1) for c in found["cells"]]
    rows = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        rows[place] = cell
    return rows.reshape([int(size) for size in found["shape"]])


def _text(array: Array) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _array(text: str) -> Array:
    data = base64.b64decode(text)
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy raises many types on damaged headers
        raise ValueError("damaged rows") from error
    if not isinstance(loaded, np.ndarray):
        raise ValueError("an archive in the place of rows")
    return loaded
