"""Cells of a table, which have no declared type, as arrays."""

from collections.abc import Callable, Sequence

import numpy as np


def cells_to_array(cells: Sequence[object] | np.ndarray) -> np.ndarray:
    """Return cells as integers if all are, else as floats (an empty cell is NaN), else as text.

    Nested lists of equal lengths become further axes.

    Raises:
        ValueError: nested lists differ in length.
    """
    if isinstance(cells, np.ndarray):
        return cells
    if not all(cell is None or isinstance(cell, str) for cell in cells):
        return np.asarray([np.nan if cell is None else cell for cell in cells])
    for kind in (int, _float):
        converted = _all(kind, cells)
        if converted is not None:
            return converted
    return np.asarray(["" if cell is None else cell for cell in cells])


def is_number(cell: object) -> bool:
    """Return whether a cell holds a number, in any form."""
    return isinstance(cell, int | float) or (isinstance(cell, str) and _all(_float, [cell]) is not None and cell != "")


def _float(cell: str | None) -> float:
    return float(cell) if cell else np.nan


def _all(kind: Callable[..., float], cells: Sequence[object]) -> np.ndarray | None:
    try:
        return np.asarray([kind(cell) for cell in cells])
    except (TypeError, ValueError):
        return None
