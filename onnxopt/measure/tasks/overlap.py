"""Overlap of classes between two labellings of the same elements (pixels, steps), one row per sample."""

from typing import NamedTuple

import numpy as np

from onnxopt.samples.core import Array

LEAST_SHARE = 1e-4
"""Smallest share of all elements for a class of the baseline to count; below it, elements are stray."""


class Overlaps(NamedTuple):
    """Elements of each class, per sample or per resample, `(n, classes)`, and of all classes, `(n,)`."""

    equal: Array
    elements: Array
    both: Array
    before: Array
    after: Array

    @property
    def union(self) -> Array:
        """Number of elements that either labelling gives to a class."""
        return np.asarray(self.before + self.after - self.both)


def class_rows(before: Array, after: Array, classes: int) -> Array:
    """Return `(n, 2 + 3 * classes)` counts of two labellings `(n, elements)`.

    Elements whose class in `before` is outside 0..classes-1 are left out of both.
    """
    valid = (before >= 0) & (before < classes)
    found = np.where(valid & (after >= 0) & (after < classes), after, classes)
    truth = np.where(valid, before, classes)
    same = valid & (found == truth)
    columns = (
        same.sum(axis=1)[:, None],
        valid.sum(axis=1)[:, None],
        _counts(np.where(same, truth, classes), classes),
        _counts(truth, classes),
        _counts(np.where(valid, found, classes), classes),
    )
    return np.hstack(columns).astype(np.float64)


def mask_rows(before: Array, after: Array) -> Array:
    """Return the counts of two sets of binary maps `(n, maps, elements)`; every map is a class."""
    n, maps, elements = before.shape
    columns = (
        (before == after).sum(axis=(1, 2)).reshape(n, 1),
        np.full((n, 1), maps * elements),
        (before & after).sum(axis=2),
        before.sum(axis=2),
        after.sum(axis=2),
    )
    return np.hstack(columns).astype(np.float64)


def lost_rows(rows: Array) -> Array:
    """Return rows with no overlap, for a candidate with outputs of another shape."""
    classes = (rows.shape[1] - 2) // 3
    lost = rows.copy()
    lost[:, 0] = 0
    lost[:, 2 : 2 + classes] = 0
    lost[:, 2 + 2 * classes :] = 0
    return lost


def _counts(labels: Array, classes: int) -> Array:
    n = len(labels)
    offsets = np.arange(n)[:, None] * (classes + 1)
    flat = (labels.astype(np.int64) + offsets).ravel()
    return np.bincount(flat, minlength=n * (classes + 1)).reshape(n, classes + 1)[:, :classes]


def resampled(rows: Array, counts: Array) -> Overlaps:
    """Return the counts of resamples."""
    total = counts @ rows
    both, before, after = np.split(total[:, 2:], 3, axis=1)
    return Overlaps(total[:, 0], total[:, 1], both, before, after)


def intersection_over_union(overlaps: Overlaps) -> Array:
    """Return IoU of every class `(n, classes)`; NaN where neither labelling has the class."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(overlaps.both / overlaps.union)


def mean_present(values: Array, empty: float) -> Array:
    """Return the mean of each row without NaN; `empty` if all are NaN."""
    present = ~np.isnan(values)
    number = present.sum(axis=1)
    total = np.where(present, values, 0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), empty)


def kept(rows: Array, counts: Array) -> Array:
    """Return the share of the baseline's classes that a candidate keeps: mean IoU, at most twice the worst class's IoU.

    The mean alone would hide the loss of one class of many. Classes below `LEAST_SHARE` of the baseline's elements do
    not count on their own if there are others; elements that a candidate gives to them count as lost.
    """
    whole = resampled(rows, np.ones((1, len(rows))))
    found = whole.before[0] > 0
    often = whole.before[0] >= LEAST_SHARE * whole.elements[0]
    considered = often & found if np.any(often & found) else found
    if not considered.any():  # the baseline finds nothing, so all findings of the candidate are wrong
        everything = resampled(rows, counts)
        return np.asarray(np.where(everything.after.sum(axis=1) > 0, 0.0, 1.0))
    some = resampled(rows, counts)
    iou = np.where(some.before > 0, intersection_over_union(some), np.nan)[:, considered]
    worst = np.where(np.isnan(iou), np.inf, iou).min(axis=1)
    return np.asarray(np.minimum(mean_present(iou, 1.0), np.minimum(1.0, 2 * worst)))
