"""Metrics of classifiers: top-k, F1, area under the ROC curve."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import (
    Outputs,
    Scores,
    as_probabilities,
    class_scores,
    misfit,
    predictions_of,
    single_score_of,
)
from onnxopt.measure.metrics.score import Metric, mean_of
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class TopK(Metric):
    """Share of samples whose label is among the `k` highest scores; a sample with a NaN score is wrong.

    A sample of many tokens or pixels counts by its share of right ones.

    Attributes:
        k: number of guesses that count.
        output: the model output to score; None takes the first that fits.
        label_offset: subtracted from a predicted class before comparing: 1 for a network with a background class 0.
        threshold: score above which a model with a single score predicts the positive class.
    """

    k: int = 1
    output: str | None = None
    label_offset: int = 0
    threshold: float = 0.5
    unit: ClassVar[str] = "share"
    binary: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """`top1` or `top5`."""
        return f"top{self.k}"

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 1)`, 1 where the label is among the guesses."""
        guesses, truth = _guesses(self, outputs, labels, self.k)
        right: Array = np.any(guesses == truth[:, None], axis=1)
        return np.asarray(right.reshape(len(labels), -1).mean(axis=1, keepdims=True))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of right rows."""
        return np.asarray(mean_of(rows, counts)[:, 0])


def _guesses(metric: "TopK | F1", outputs: Outputs, labels: Array, k: int) -> tuple[Array, Array]:
    """Return the `k` best classes of each sample `(n, k)`, -1 or None for NaN scores, and the labels `(n,)`."""
    words = np.asarray(labels).dtype.kind in "OUS"
    scores = class_scores(outputs, metric.output)
    by_scores = scores is not None and not (words and scores.classes is None)
    predicted = None if by_scores else predictions_of(outputs, metric.output)
    named_classes = scores.classes if scores is not None else predicted
    if named_classes is not None and named_classes.dtype.kind in "OUS" and not words:
        why = f"the model gives names such as {str(named_classes.flat[0])!r}, the labels are numbers"
        raise misfit(why, "Give the names as labels.", where=metric.name)
    if scores is not None and by_scores:
        return _by_scores(metric, scores, labels, k)
    if predicted is not None:
        return _by_classes(metric, predicted, labels, k)
    single = single_score_of(outputs, metric.output)
    if single is None:
        hint = f"Outputs: {', '.join(outputs)}. Name the one with class scores."
        raise misfit("no output looks like class scores or classes", hint, where=metric.name)
    return _by_threshold(metric, single, labels)


def _by_scores(metric: "TopK | F1", scores: Scores, labels: Array, k: int) -> tuple[Array, Array]:
    values, truth = _aligned(scores.values, labels)
    if scores.classes is None:
        truth = _class_labels(truth, values.shape[-1], metric.label_offset)
    best = np.argsort(-values, axis=1, kind="stable")[:, :k]
    named = scores.classes[best] if scores.classes is not None else best - metric.label_offset
    return _blank(named, np.isnan(values).any(axis=1)), truth


def _by_classes(metric: "TopK | F1", predicted: Array, labels: Array, k: int) -> tuple[Array, Array]:
    if k > 1:
        raise misfit("the model gives classes, not scores", "Use top1.", where=metric.name)
    truth, predicted = np.asarray(labels).reshape(-1), predicted.reshape(-1)
    if predicted.size != truth.size:
        raise misfit(f"{predicted.size} predictions for {truth.size} labels", "Check the output name.")
    if predicted.dtype.kind in "iub":
        truth = _integers(truth)
        predicted = predicted.astype(np.int64) - metric.label_offset
    return predicted[:, None], truth


def _by_threshold(metric: "TopK | F1", single: Array, labels: Array) -> tuple[Array, Array]:
    truth = _class_labels(np.asarray(labels).reshape(-1), 2, 0)
    if single.shape != truth.shape:
        raise misfit(f"{single.size} scores for {truth.size} labels", "Check the output name.")
    if metric.threshold == 0.5 and np.any((single < 0) | (single > 1)):
        hint = "Set the decision threshold to 0 for logits."
        raise misfit("the model gives one score that is not a probability", hint, where=metric.name)
    return _blank((single > metric.threshold).astype(np.int64)[:, None], np.isnan(single)), truth


_NOTHING = np.iinfo(np.int64).min
"""The class of a NaN score, which no label has."""


def _blank(guesses: Array, undefined: Array) -> Array:
    """Return the guesses, with those of undefined samples replaced by a class that matches no label."""
    if not undefined.any():
        return guesses
    numbers = guesses.dtype.kind in "iu"
    guesses = guesses.astype(np.int64 if numbers else object)
    guesses[undefined] = _NOTHING if numbers else None
    return guesses


def _aligned(values: Array, labels: Array) -> tuple[Array, Array]:
    """Return scores as `(rows, classes)` and labels as `(rows,)`: one row per sample, token or pixel."""
    labels = np.asarray(labels)
    if labels.ndim > 1 and labels.shape == values.shape and np.all(labels.sum(axis=-1) == 1):
        labels = labels.argmax(axis=-1)  # one-hot
    if values.shape[:1] + values.shape[2:] == labels.shape and values.shape[:-1] != labels.shape:
        values = np.moveaxis(values, 1, -1)  # (n, classes, height, width), labels (n, height, width)
    rows = values.reshape(-1, values.shape[-1])
    if len(rows) != labels.size:
        why = f"scores of shape {list(values.shape)} for labels of shape {list(labels.shape)}"
        raise misfit(why, "Give one label per row of scores, or name the output that holds the scores.")
    return rows, labels.reshape(-1)


def _by_sample(table: Array, samples: int) -> Array:
    """Group rows per position by sample, because tokens and pixels of one sample are drawn together."""
    return table if len(table) == samples else table.reshape(samples, -1, table.shape[1])


def _by_position(rows: Array, counts: Array) -> tuple[Array, Array]:
    """Return rows per position and their counts, which are the counts of their samples."""
    if rows.ndim == 2:
        return rows, counts
    return rows.reshape(-1, rows.shape[2]), np.repeat(counts, rows.shape[1], axis=1)


def _integers(labels: Array) -> Array:
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.dtype.kind != "f" or not np.all(labels == np.round(labels)):
        raise misfit("the labels are not integers", "A classification metric needs class numbers as labels.")
    return labels.astype(np.int64)


def _class_labels(labels: Array, classes: int, offset: int) -> Array:
    labels = _integers(labels)
    low, high = int(labels.min()) + offset, int(labels.max()) + offset
    if low < 0 or high >= classes:
        why = f"labels {low - offset} to {high - offset}, and the model has classes {-offset} to {classes - 1 - offset}"
        hint = (
            "--label-offset is added to each label: 1 if the model has an extra first class, -1 if labels count from 1."
        )
        raise misfit(why, hint)
    return labels


@dataclass(frozen=True)
class F1(Metric):
    """F1 score: of class 1 when the labels are 0 and 1, else the mean over classes; options as in `TopK`."""

    output: str | None = None
    label_offset: int = 0
    threshold: float = 0.5
    name = "f1"
    bounded: ClassVar[bool] = True

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 2)`, predicted class and label; `(n, positions, 2)` if samples have a label per position."""
        guesses, truth = _guesses(self, outputs, labels, 1)
        if guesses.dtype.kind not in "iu":
            raise misfit("the classes are words", "Give class numbers as labels, or use top1.", where=self.name)
        predicted, truth = guesses[:, 0], _integers(truth)
        undefined = predicted == _NOTHING
        table = np.column_stack((np.where(undefined, truth != 1, predicted), truth))  # wrong in any case
        return _by_sample(table, len(labels))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return F1 of resampled rows; classes absent from labels and predictions do not count."""
        rows, counts = _by_position(rows, counts)
        predicted, truth = rows[:, 0], rows[:, 1]
        binary = len(np.unique(truth)) <= 2 and truth.max() <= 1
        scores = []
        for kind in [1] if binary else np.unique(rows):
            hits = counts @ ((predicted == kind) & (truth == kind)).astype(np.int64)
            total = counts @ ((predicted == kind).astype(np.int64) + (truth == kind))
            with np.errstate(invalid="ignore", divide="ignore"):
                scores.append(2 * hits / total)
        if binary:
            return np.asarray(np.nan_to_num(scores[0]))
        table = np.array(scores)
        present = ~np.isnan(table)
        return np.asarray(np.where(present, table, 0).sum(axis=0) / present.sum(axis=0))


@dataclass(frozen=True)
class Auroc(Metric):
    """Area under the ROC curve; for more than two classes, the mean of one class against the rest.

    Logits of more than two classes are converted by softmax first, which ranks samples as scikit-learn does.

    Source: Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic curve", 1982.
    """

    output: str | None = None
    label_offset: int = 0
    name = "auroc"
    bounded: ClassVar[bool] = True
    undefined: ClassVar[str] = "Give more samples, of every class."
    resamples: ClassVar[int] = 500

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, classes + 1)`, scores and label; `(n, positions, classes + 1)`; two columns for two classes."""
        scores = class_scores(outputs, self.output)
        if scores is None:
            single = single_score_of(outputs, self.output)
            if single is None:
                hint = f"Outputs: {', '.join(outputs)}. Name the one with class scores."
                raise misfit("no output looks like class scores", hint, where=self.name)
            values, truth = single[:, None], np.asarray(labels).reshape(-1)
            if len(values) != len(truth):
                raise misfit(f"{len(values)} scores for {len(truth)} labels", "Check the output name.")
            return np.column_stack((values, _class_labels(truth, 2, 0)))
        values, truth = _aligned(scores.values, labels)
        if scores.classes is not None:
            order = {name: index for index, name in enumerate(scores.classes.tolist())}
            truth = np.array([order.get(label, -1) for label in truth.tolist()])
        truth = _class_labels(truth, values.shape[1], self.label_offset) + self.label_offset
        values = values[:, 1:] - values[:, :1] if values.shape[1] == 2 else as_probabilities(values)
        return _by_sample(np.column_stack((values, truth)), len(labels))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the area of resampled rows, NaN where a resample holds a single class."""
        rows, counts = _by_position(rows, counts)
        scores, truth = rows[:, :-1], rows[:, -1]
        if np.isnan(scores).any():
            return np.full(len(counts), np.nan)
        kinds = [1] if scores.shape[1] == 1 else [c for c in range(scores.shape[1]) if np.any(truth == c)]
        areas = [_area(scores[:, min(c, scores.shape[1] - 1)], truth == c, counts) for c in kinds]
        table = np.array(areas)
        present = ~np.isnan(table)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(present, table, 0).sum(axis=0) / present.sum(axis=0))


def _area(scores: Array, positive: Array, counts: Array) -> Array:
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    drawn = counts[:, order]
    positives = np.add.reduceat(drawn * positive[order], starts, axis=1)
    negatives = np.add.reduceat(drawn * ~positive[order], starts, axis=1)
    lower = np.cumsum(negatives, axis=1) - negatives
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (positives * (lower + 0.5 * negatives)).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1))
        )
