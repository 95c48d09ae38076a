"""Errors of columns, each relative to its own spread, so that no column is hidden by larger ones."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.metrics.outputs import without_ones
from onnxopt.samples.core import Array

MOST_COLUMNS = 1024
"""Most columns; further ones are pooled with their neighbours, which limits the memory per sample."""
_NO_SPREAD = 1e-9
"""Ratio of variance to power below which a column counts as constant: float32 rounding causes as much."""
_CHUNK_ELEMENTS = 1 << 18
"""Elements of a table that are computed at once: some megabytes, of which there are several copies."""
_NOTHING = 1e-12
"""Power of a column of zeros relative to the largest column's; below the square of this ratio a column holds zeros."""


def samples_first(value: Array, size: int) -> Array:
    """Return an output as `(size, ...)`; an output without a batch axis comes from a run of one sample."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and len(array) == size:
        return array
    return np.broadcast_to(array[None], (size, *array.shape)) if size > 1 else array[None]


def table_of(value: Array, size: int) -> Array:
    """Return an output as `(size, ..., columns)`, without its axes of size 1."""
    array = without_ones(samples_first(value, size))
    return array[:, None] if array.ndim == 1 else array


def column_axes(shape: Sequence[int], declared: Sequence[int | str | None] | None) -> tuple[int, ...]:
    """Return the axes whose entries are columns: the last or the channels; () if no such axis has a fixed size.

    Args:
        shape: shape of the output from `samples_first`, which may have one axis more than declared.
        declared: shape declared in the file; None without one.
    """
    rank = len(shape)
    if rank < 2:
        return ()
    if rank == 2:
        return (1,)
    offset = rank - len(declared) if declared is not None else 0
    fixed = [
        axis
        for axis in (1, rank - 1)
        if declared is not None and axis >= offset and isinstance(declared[axis - offset], int) and shape[axis] > 1
    ]
    if len(fixed) < 2:
        return tuple(fixed)
    if rank > 3:  # a map: height and width are similar, channels are few or differ from both
        alike = shape[2] == shape[-1], shape[1] == shape[2]
        return (1,) if alike[0] and not alike[1] else (rank - 1,) if alike[1] and not alike[0] else _smaller(shape)
    return tuple(axis for axis in fixed if shape[axis] <= MOST_COLUMNS) or _smaller(shape)


def _smaller(shape: Sequence[int]) -> tuple[int, ...]:
    return (1,) if shape[1] <= shape[-1] else (len(shape) - 1,)


def by_column(array: Array, axis: int | None) -> Array:
    """Return an array `(size, ...)` as `(size, elements, columns)`; a single column without an axis."""
    if axis is None or axis >= array.ndim:
        return array.reshape(len(array), -1, 1)
    return np.moveaxis(array, axis, -1).reshape(len(array), -1, array.shape[axis])


def column_rows(one: Array, other: Array) -> Array:
    """Return `(size, 3 * columns)`: squared error, baseline and baseline squared, as means over a sample's elements.

    Equal infinities in the same place are no error and do not add to the spread.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if one.shape == other.shape:
            same = np.isinf(one) & (one == other)
            kept = np.where(same, 0.0, one)
            error = (kept - np.where(same, 0.0, other)) ** 2
        else:  # with another number of elements, the whole baseline is the error
            kept = np.where(np.isinf(one), 0.0, one)
            mine, theirs = (np.asarray(a**2).sum(axis=(1, 2), keepdims=True) for a in (kept, other))
            count = max(one.shape[1] * one.shape[2], 1)
            error = np.broadcast_to(np.maximum(mine, theirs) / count, one.shape)
        parts = [_mean(error), _mean(kept), _mean(kept**2)]
    return np.hstack([_pooled(part) for part in parts])


def _mean(array: Array) -> Array:
    return array.mean(axis=1) if array.shape[1] else np.zeros((len(array), array.shape[2]))


def _pooled(table: Array) -> Array:
    count = table.shape[1]
    if count <= MOST_COLUMNS:
        return table
    starts = np.unique(np.linspace(0, count, MOST_COLUMNS, endpoint=False).astype(int))
    sizes = np.diff(starts, append=count)
    return np.asarray(np.add.reduceat(table, starts, axis=1) / sizes)


def relative_errors(rows: Array, counts: Array) -> Array:
    """Return the root mean squared error of each column relative to its spread, `(resamples, columns)`.

    The error of a constant column is relative to its size; that of a column of zeros, to the rounding of the others.
    """
    step = max(_CHUNK_ELEMENTS // max(rows.shape[1], 1), 1)
    return np.concatenate([_relative_errors(rows, counts[i : i + step]) for i in range(0, len(counts), step)])


def _relative_errors(rows: Array, counts: Array) -> Array:
    error, mean, square = np.split(rows, 3, axis=1)
    drawn = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # Deviations from the mean of all rows avoid cancellation in the variance below.
        center = mean.mean(axis=0)
        noise = counts @ error / drawn
        power = counts @ square / drawn
        shift = counts @ (mean - center) / drawn
        variance = counts @ (square - 2 * mean * center + center**2) / drawn - shift**2
        scale = np.where(variance > _NO_SPREAD * power, variance, power)
        largest = scale.max(axis=1, keepdims=True, initial=0)
        scale = np.where(power > _NOTHING**2 * largest, scale, _NOTHING * largest)
        return np.asarray(np.sqrt(np.where(noise == 0, 0.0, noise / scale)))
