"""Class scores, predicted classes or numbers from a model's outputs, in any exported form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.errors import DataError, nearest
from onnxopt.samples.core import Array

Outputs = Mapping[str, Any]
"""Outputs of one run by name: numpy arrays, or lists of dictionaries from a ZipMap."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Class scores of one batch, `(n, ..., classes)`; `classes` are their names if the model gives them (ZipMap)."""

    values: Array
    classes: Array | None = None


def misfit(why: str, hint: str, where: str = "") -> DataError:
    """Return the error for a metric that cannot be computed from these outputs and labels."""
    return DataError("ONX209", "the metric does not fit", where=where, why=why, hint=hint)


def chosen(outputs: Outputs, name: str) -> Any:
    """Return the output called `name`.

    Raises:
        DataError: ONX209 there is none.
    """
    if name not in outputs:
        raise misfit("the model has no such output", nearest(name, outputs), where=name)
    return outputs[name]


def is_map(value: Any) -> bool:
    """Return whether an output is a list of class-to-score dictionaries, the output of ZipMap."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def is_float(value: Any) -> bool:
    """Return whether an output is a tensor of floating-point numbers, of any width."""
    return isinstance(value, np.ndarray) and (
        value.dtype.kind == "f" or value.dtype.name.startswith(("bfloat", "float"))
    )


def without_ones(array: Array) -> Array:
    """Remove axes of size 1 after the batch axis, such as the output axes of global pooling: (n, c, 1, 1) -> (n, c)."""
    keep = tuple(axis for axis, size in enumerate(array.shape) if axis and size == 1)
    return np.squeeze(array, axis=keep)


def class_scores(outputs: Outputs, name: str | None) -> Scores | None:
    """Return the class scores: output `name`, or the first ZipMap or float output with more than one column."""
    candidates = outputs if name is None else {name: chosen(outputs, name)}
    for value in candidates.values():
        if is_map(value):
            classes = np.array(list(value[0]))
            return Scores(np.array([[row[c] for c in value[0]] for row in value], dtype=np.float64), classes)
        if is_float(value):
            array = without_ones(value)
            if array.ndim > 1 and array.shape[-1] > 1:
                return Scores(array.astype(np.float64))
    return None


def single_score_of(outputs: Outputs, name: str | None) -> Array | None:
    """Return the score of the positive class, `(n,)`, of a binary classifier with one output column."""
    candidates = outputs if name is None else {name: chosen(outputs, name)}
    for value in candidates.values():
        if is_float(value) and value.size == (value.shape[0] if value.ndim else 1):
            return np.asarray(value.reshape(-1), dtype=np.float64)
    return None


def predictions_of(outputs: Outputs, name: str | None) -> Array | None:
    """Return predicted classes: output `name`, or the first of integers, booleans or strings."""
    candidates = outputs if name is None else {name: chosen(outputs, name)}
    for value in candidates.values():
        if isinstance(value, np.ndarray) and value.dtype.kind in "iubOUS":
            return without_ones(value) if value.ndim else value.reshape(1)
    return None


def numbers_of(outputs: Outputs, name: str | None) -> Array:
    """Return output `name`, or the first float one (or the first number at all), as float64.

    Raises:
        DataError: ONX209 there is none.
    """
    if name is not None:
        outputs = {name: chosen(outputs, name)}
    for wanted in (is_float, lambda value: isinstance(value, np.ndarray) and value.dtype.kind in "iub"):
        for value in outputs.values():
            if wanted(value):
                return np.asarray(value, dtype=np.float64)
    raise misfit("the model gives no numbers", "Use a metric of your own: file.py:function.", where=name or "")


def are_probabilities(scores: Array) -> bool:
    """Return whether every row of `scores` (..., classes) is non-negative and adds up to 1, give or take rounding."""
    return bool(scores.size and scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=0.05))


def as_probabilities(scores: Array) -> Array:
    """Return `scores` (..., classes) unchanged when they are probabilities, else their softmax."""
    if not scores.size or are_probabilities(scores):
        return scores
    with np.errstate(invalid="ignore"):  # rows of infinities become NaN, which is counted and reported
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def non_finite_rows(outputs: Outputs, size: int, name: str | None) -> int:
    """Return the number of samples, of `size`, with NaN or infinity in the float outputs (in output `name` alone)."""
    return int(_rows_where(outputs, size, None if name is None else (name,), lambda a: ~np.isfinite(a)).sum())


def nan_rows(outputs: Outputs, size: int, names: Sequence[str] | None = None) -> Array:
    """Return which of `size` samples have NaN in the float outputs, or in those of `names`, `(size,)`."""
    return _rows_where(outputs, size, names, np.isnan)


def broken_rows(before: Outputs, after: Outputs, size: int, names: Sequence[str] | None = None) -> Array:
    """Return which of `size` samples have NaN or an infinity where the baseline's value differs, `(size,)`."""
    bad = nan_rows(after, size, names)
    for key, value in after.items():
        if (names is not None and key not in names) or not is_float(value) or not is_float(before.get(key)):
            continue
        mine, theirs = (np.asarray(a, dtype=np.float64) for a in (value, before[key]))
        if mine.shape == theirs.shape:
            bad |= _by_sample(np.isinf(mine) & (mine != theirs), size)
        else:
            bad |= _by_sample(np.isinf(mine), size)
    return bad


def _rows_where(outputs: Outputs, size: int, names: Sequence[str] | None, holds: Callable[[Array], Array]) -> Array:
    bad = np.zeros(size, dtype=bool)
    for key, value in outputs.items():
        if names is not None and key not in names:
            continue
        array = class_scores({key: value}, None) if is_map(value) else None
        values = array.values if array is not None else value
        if is_float(values):
            bad |= _by_sample(holds(np.asarray(values, dtype=np.float64)), size)
    return bad


def _by_sample(marked: Array, size: int) -> Array:
    """Return which samples hold a marked element; if the first axis is not the samples, one marks all."""
    if marked.ndim and len(marked) == size:
        return np.asarray(marked.reshape(size, -1).any(axis=1))
    return np.full(size, bool(marked.any()))
