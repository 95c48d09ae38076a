"""Average precision of recorded images and of any resample of them, as COCO defines it.

The definition is that of pycocotools; tests compare the figures with it and with faster-coco-eval. The code is our own
because an interval needs the figures of a thousand resamples, which are one array expression here.

Source: Lin et al., "Microsoft COCO: common objects in context", 2014; pycocotools' `COCOeval.accumulate`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxopt.measure.tasks.detection.matching import Matched, Record
from onnxopt.samples.core import Array

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which the precision is read: COCO's 101 points."""
_CHUNK_ELEMENTS = 4_000_000


@dataclass(frozen=True, eq=False)
class Ranked:
    """All boxes of one class, highest score first.

    Attributes:
        image: `(d,)`, index of each box's image.
        right: `(thresholds, d)`, whether the box is right.
        ignored: `(thresholds, d)`, whether the box is neither right nor wrong.
        wanted: `(n,)`, number of labelled boxes of the class in each image.
    """

    image: Array
    right: Array
    ignored: Array
    wanted: Array


def ranked_by_class(records: Array) -> Iterator[Ranked]:
    """Merge the records of `(n,)` images by class; classes absent from all images are left out."""
    classes = sorted({c for record in records for c, matched in record.items() if matched.wanted})
    for c in classes:
        yield _of_class(c, records)


def _of_class(c: int, records: Array) -> Ranked:
    parts: list[tuple[int, Matched]] = [(i, record[c]) for i, record in enumerate(records) if c in record]
    wanted = np.zeros(len(records))
    for i, part in parts:
        wanted[i] = part.wanted
    order = np.argsort(-np.concatenate([part.scores for _, part in parts]), kind="stable")
    image = np.repeat([i for i, _ in parts], [len(part.scores) for _, part in parts])
    right = np.concatenate([part.right for _, part in parts], axis=1)
    ignored = np.concatenate([part.ignored for _, part in parts], axis=1)
    return Ranked(image[order], right[:, order], ignored[:, order], wanted)


def average_precision(records: Array, counts: Array, levels: slice) -> Array:
    """Return the mean over classes and overlaps of the average precision, `(resamples,)`; NaN without boxes.

    Args:
        records: `(n,)` objects, see `Record`.
        counts: `(resamples, n)`, number of draws of each image.
        levels: indices of the recorded overlaps.
    """
    total, classes = np.zeros(len(counts)), np.zeros(len(counts))
    for one in ranked_by_class(records):
        present = counts @ one.wanted > 0
        step = max(1, _CHUNK_ELEMENTS // max(len(one.image), 1))
        for start in range(0, len(counts), step):
            part = slice(start, start + step)
            value = _of_resamples(one, counts[part], levels)
            total[part] += np.where(present[part], value, 0.0)
        classes += present
    return np.asarray(np.divide(total, classes, out=np.full(len(counts), np.nan), where=classes > 0))


def _of_resamples(one: Ranked, counts: Array, levels: slice) -> Array:
    """Return `(resamples,)` average precisions of one class, the mean over the overlaps.

    The envelope of the precision changes only at right boxes, so only these are computed. A right box that is not drawn
    has the recall of the right box before it, with no higher precision, and so adds nothing.
    """
    weights = counts[:, one.image].astype(np.float64)
    ranks = np.cumsum(weights, axis=1)
    wanted = np.maximum(counts @ one.wanted, 1)[:, None]
    values = []
    for right, ignored in zip(one.right[levels], one.ignored[levels], strict=True):
        places = np.flatnonzero(right)
        hits = np.cumsum(weights[:, places], axis=1)
        seen = ranks[:, places]
        if ignored.any():
            seen = seen - np.cumsum(weights * ignored, axis=1)[:, places]
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=hits > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, hits / wanted, side="right")
        # The first right box also reaches a recall of 0.
        points = np.diff(np.where(hits > 0, reached, 0), axis=1, prepend=0)
        values.append((envelope * points).sum(axis=1) / len(RECALLS))
    return np.asarray(np.mean(values, axis=0))


def records_array(records: list[Record]) -> Array:
    """Return `(n, 1)` objects, a metric's rows."""
    rows = np.empty((len(records), 1), dtype=object)
    rows[:, 0] = records
    return rows
