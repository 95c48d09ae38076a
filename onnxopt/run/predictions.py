"""Samples with different answers of two models, class by class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from onnxopt.measure.comparison import classes_of
from onnxopt.measure.fidelity import run_both, sample_count
from onnxopt.measure.metrics.outputs import Outputs, single_score_of
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.record.analysis import ChangedRecord, ClassesRecord
from onnxopt.samples import Samples

MOST_SAMPLES, MOST_CLASSES, MOST_CHANGED = 1000, 24, 200


@dataclass(frozen=True)
class Answers:
    """Classes that two models give to the same samples, as text; `labels` are None without any."""

    samples: tuple[int, ...]
    labels: tuple[str, ...] | None
    before: tuple[str, ...]
    after: tuple[str, ...]


def answers(
    original: Loadable, best: Loadable, samples: Samples, metric: Metric | None, runtime: Runtime
) -> Answers | None:
    """Run both models on at most 1000 samples; None when they give no classes.

    Raises:
        ModelError: a model cannot be loaded.
        NativeError: ONX401 it cannot be run.
    """
    taken = samples.take(MOST_SAMPLES)

    def work() -> Answers | None:
        before: list[str] = []
        after: list[str] = []
        labels: list[str] = []
        for batch, one, other in run_both(Session(original, runtime), Session(best, runtime), taken):
            size = sample_count(batch)
            pair = _classes(one, metric, size), _classes(other, metric, size)
            if pair[0] is None or pair[1] is None:
                return None
            before += pair[0]
            after += pair[1]
            labels += _labels(batch.labels, size) or ()
        indices = tuple(int(i) for i in taken.indices[: len(before)])
        if len(indices) != len(before):
            return None
        return Answers(indices, tuple(labels) if len(labels) == len(before) else None, tuple(before), tuple(after))

    return interruptible(work)


def _classes(outputs: Outputs, metric: Metric | None, size: int) -> list[str] | None:
    name = None if metric is None else metric.output
    found = classes_of(outputs, name)
    if found is None:
        threshold, scores = getattr(metric, "threshold", None), single_score_of(outputs, name)
        found = None if threshold is None or scores is None else (scores > threshold).astype(np.int64)
        offset = 0
    else:
        offset = getattr(metric, "label_offset", 0)
    if found is None or found.shape != (size,):
        return None
    return [_text(value, offset) for value in found.tolist()]


def _labels(labels: np.ndarray | None, size: int) -> list[str] | None:
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1 and np.all(labels.sum(axis=1) == 1):
        labels = labels.argmax(axis=1)
    return [_text(value, 0) for value in labels.reshape(-1).tolist()] if labels.size == size else None


def _text(value: object, offset: int) -> str:
    if isinstance(value, bool | int | float):
        return "not a number" if isnan(value) else str(int(value) - offset)
    return str(value)[:80]


def changed_samples(found: Answers) -> tuple[tuple[ChangedRecord, ...], int]:
    """Return the samples that are answered otherwise, those that were right first, and how many there are."""
    labels: Sequence[str | None] = found.labels or [None] * len(found.samples)
    rows = [
        ChangedRecord(sample=sample, label=label, before=one, after=other)
        for sample, label, one, other in zip(found.samples, labels, found.before, found.after, strict=True)
        if one != other
    ]
    rows.sort(key=lambda row: (row.label != row.before, row.sample))
    return tuple(rows[:MOST_CHANGED]), len(rows)


def per_class(found: Answers) -> ClassesRecord:
    """Count answers by class, for the most frequent classes."""
    truth = found.labels or found.before
    tally = Counter(truth)
    chosen = sorted((name for name, _ in tally.most_common(MOST_CLASSES)), key=_order)
    return ClassesRecord(
        labelled=found.labels is not None,
        labels=tuple(chosen),
        samples=tuple(tally[name] for name in chosen),
        before=_confusion(truth, found.before, chosen),
        after=_confusion(truth, found.after, chosen),
    )


def _order(name: str) -> tuple[int, int, str]:
    number = name.removeprefix("-")
    return (0, int(name), "") if number.isdecimal() else (1, 0, name)


def _confusion(truth: Sequence[str], given: Sequence[str], chosen: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    counts = Counter(zip(truth, given, strict=True))
    return tuple(tuple(counts[row, column] for column in chosen) for row in chosen)
