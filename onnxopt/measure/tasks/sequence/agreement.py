"""Agreement of two sequence models."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, chosen
from onnxopt.measure.tasks.overlap import class_rows, intersection_over_union, kept, resampled
from onnxopt.measure.tasks.sequence.decoding import Decoding
from onnxopt.measure.tasks.sequence.distance import edit_distance
from onnxopt.measure.tasks.tokens.masks import kept_steps
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

MOST_CLASSES = 1024
"""Most classes that are counted separately: a sample's row holds three numbers per class."""


@dataclass(frozen=True)
class TextAgreement(Comparison):
    """Share of samples for which both models read the same text, after greedy CTC decoding.

    A text that differs in one character counts as another text, so that errors of a candidate cannot cancel out; the
    share of different characters is shown beside it and is never larger. One sequence is one sample, for any number of
    steps.

    Attributes:
        output: output with the scores of every step.
        decoding: reading of the scores.
    """

    output: str
    decoding: Decoding
    name = "same text"
    unit: ClassVar[str] = "share"
    binary: ClassVar[bool] = True

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 3)`: 1 where the text is the same, edits between the texts, symbols in the baseline's."""
        one = self.decoding.sequences(chosen(before, self.output))
        other = self.decoding.sequences(chosen(after, self.output))
        if len(one) != len(other):
            return np.array([[0, len(text), len(text)] for text in one], dtype=np.float64)
        pairs = zip(one, other, strict=True)
        return np.array([[a == b, edit_distance(a, b), len(a)] for a, b in pairs], dtype=np.float64)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of equal texts."""
        return np.asarray(counts @ rows[:, 0] / counts.sum(axis=1))

    def details(self, rows: Array) -> dict[str, float]:
        """Return the number of different characters, as a share of the baseline's characters."""
        return {"character error rate against the baseline": float(rows[:, 1].sum() / max(rows[:, 2].sum(), 1))}


@dataclass(frozen=True)
class StepAgreement(Comparison):
    """Share of steps to which both models give the same class, or less if a class is lost.

    The score is the mean of the samples' shares, limited by the mean IoU of the classes that the baseline finds and by
    twice the IoU of the worst of them: most steps of a tagger have no entity and agree even if all entities are lost.
    One sequence is one sample; the mask leaves out steps of padding. Above 1,024 classes, only the share of steps
    counts.

    Attributes:
        output: the scores of every step.
        decoding: the way to read them.
        mask: the input that is 0 at padding; None without one.
    """

    output: str
    decoding: Decoding
    mask: str | None = None
    name = "same class per step"
    unit: ClassVar[str] = "share"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 3 + 3 * classes)`: the share of equal steps, then the overlap of classes."""
        one = chosen(before, self.output)
        truth, found = self.decoding.steps(one), self.decoding.steps(chosen(after, self.output))
        if truth.shape != found.shape:
            found = np.full_like(truth, -1)
        truth = np.where(kept_steps(feeds, self.mask, truth.shape), truth, -1)
        classes = int(np.shape(one)[-1])
        valid = truth >= 0
        number = valid.sum(axis=1)
        share = np.where(number > 0, (valid & (truth == found)).sum(axis=1) / np.maximum(number, 1), 1.0)
        if classes > MOST_CLASSES:
            return share[:, None]
        return np.hstack((share[:, None], class_rows(truth, found, classes)))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of equal steps, or the kept share of the baseline's classes if that is less."""
        share = counts @ rows[:, 0] / counts.sum(axis=1)
        return np.asarray(share if rows.shape[1] == 1 else np.minimum(share, kept(rows[:, 1:], counts)))

    def details(self, rows: Array) -> dict[str, float]:
        """Return the share of equal steps and the worst class's IoU."""
        share = {"steps of the same class": float(rows[:, 0].mean())}
        if rows.shape[1] == 1:
            return share
        total = resampled(rows[:, 1:], np.ones((1, len(rows))))
        iou = intersection_over_union(total)[0][total.before[0] > 0]
        return share | ({"IoU of the worst class": float(iou.min())} if iou.size else {})
