"""Scores of guesses, which know the labels and no input: a baseline at that level was given other labels or inputs."""

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.metrics.classification import F1, Auroc, TopK
from onnxopt.measure.metrics.regression import R2, Mae, Rmse
from onnxopt.measure.metrics.score import Metric, figure_in_words
from onnxopt.measure.tasks.detection.metric import AveragePrecision
from onnxopt.measure.tasks.embedding.metric import RecallAt
from onnxopt.measure.tasks.segmentation.metric import SegmentationMetric
from onnxopt.measure.tasks.sequence.distance import edit_distance
from onnxopt.measure.tasks.sequence.metric import ErrorRate, ExactMatch
from onnxopt.measure.tasks.signal.channels import decibels
from onnxopt.measure.tasks.signal.metric import SignalRatio, peak_of
from onnxopt.samples.core import Array

NEAR = 0.1
"""Share of the way from a guess to a good score below which a score is hardly better than the guess."""

LITTLE = 0.25
"""The same share for a score that is little better; the far end of a score's interval must be below it to be sure."""

HALF = 0.5
"""The share that the far end must be below for a score of classes that is little better: as of inputs whose mean and
deviation are not those of the training, which a classifier answers right now and then."""

FEWEST = 10
"""Samples below which nothing is sure."""

_LEAST_ROOM = 1e-9
"""Least difference of a good score from a guess: labels that do not differ, up to rounding, show nothing."""
_HARD = 0.2
"""The score of a model that is surely no guess, where good models have low scores."""

_NO_CLASS = 255
"""The number from which masks name no class."""

_COMPARED_TEXTS = 64
_IMAGES = "of images --mean, --std, --divide-by, --channel-order and --resize"
_CLASSES = f"the order and the numbers of the labels (--label-offset), and the preparation of the inputs ({_IMAGES})"
_NUMBERS = "the order, the unit and the scale of the labels, and the preparation of the inputs"
_TEXTS = f"the order of the labels, --characters and --blank, and the preparation of the inputs ({_IMAGES})"
_MAPS = f"the order and the numbers of the masks, and the preparation of the inputs ({_IMAGES})"
_BOXES = f"the form and the class numbers of the boxes (--decode), and the preparation of the inputs ({_IMAGES})"
_RARE = ", and whether another metric (--metric f1 or auroc) shows more where one class is so frequent"
_FREQUENT = 0.8
"""Share of a class above which always naming it is a fair score of a useful model too."""


@dataclass(frozen=True)
class Guess:
    """The score of answers that have nothing to do with the inputs.

    Attributes:
        value: the score.
        words: the way of guessing.
        check: the things to check where a model scores no better.
        good: the score of a model that is surely no guess; None where only a score at the guess or worse is one.
    """

    value: float
    words: str
    check: str
    good: float | None = 1.0

    def skill(self, score: float) -> float:
        """Return the share of the way from the guess to a good score; NaN where both are about the same."""
        if self.good is None:
            return math.copysign(math.inf, score - self.value) if score != self.value else 0.0
        room = self.good - self.value
        return (score - self.value) / room if abs(room) > _LEAST_ROOM else math.nan


def hardly_better(found: Evaluation, labels: Array | None) -> str:
    """Return a warning if a baseline surely scores hardly better than a guess; "" if it does better or may do so.

    Classes are warned of where the score is little better too.
    """
    guess = _guess(found, labels)
    if guess is None or found.metric.telling(found.rows) < FEWEST:
        return ""
    far = found.interval.high if found.metric.higher_is_better else found.interval.low
    here, most = guess.skill(found.value), guess.skill(far)
    if here < NEAR and most < LITTLE:
        how, so = "hardly", " A broken model loses nothing of such a score, so the verdicts say nothing."
    elif isinstance(found.metric, TopK) and here < LITTLE and most < HALF:
        how, so = "little", ""
    else:
        return ""
    return (
        f"Warning: the baseline's {_words(found)} is {how} better than a guess: {guess.words} gets "
        f"{_figure(found, guess.value)}.{so} If the baseline does better elsewhere, check {guess.check}."
    )


def little_better(found: Evaluation, labels: Array | None) -> str:
    """Return a hint if a score is little better than a guess, however few the samples; "" for a better one."""
    guess = _guess(found, labels)
    if guess is None or not guess.skill(found.value) < LITTLE:
        return ""
    return (
        f"That is little better than a guess: {guess.words} gets {_figure(found, guess.value)}. If the model does "
        f"better elsewhere, check {guess.check}."
    )


def _guess(found: Evaluation, labels: Array | None) -> Guess | None:
    if labels is None or not len(labels) or not isinstance(found.metric, Metric) or not math.isfinite(found.value):
        return None
    return guess_of(found.metric, labels)


def _words(found: Evaluation) -> str:
    return f"{found.metric.name} of {_figure(found, found.value)} on {found.n} samples"


def _figure(found: Evaluation, value: float) -> str:
    return figure_in_words(value, found.metric.unit)


@singledispatch
def guess_of(metric: Metric, labels: Array) -> Guess | None:
    """Return the score of a guess that knows `labels` alone; None where none is defined.

    Perplexity has none, because a few texts do not show how frequent tokens are, nor have metrics of users.
    """
    return None


@guess_of.register
def _(metric: TopK, labels: Array) -> Guess:
    shares = np.sort(_shares(_numbers(labels)))[::-1]
    value, kinds = float(shares[: metric.k].sum()), len(shares)
    named = "class" if metric.k == 1 else f"{metric.k} classes"
    rare = _RARE if value > _FREQUENT else ""
    return Guess(value, f"always naming the most frequent {named} of {kinds}", _CLASSES + rare)


@guess_of.register
def _(metric: F1, labels: Array) -> Guess:
    truth = _numbers(labels)
    if set(np.unique(truth).tolist()) <= {0, 1}:
        share = float(np.mean(truth == 1))
        return Guess(2 * share / (1 + share), "always naming class 1", _CLASSES)
    kinds = len(np.unique(truth))
    return Guess(1 / kinds, f"naming {kinds} classes as often as the labels, in any order,", _CLASSES)


@guess_of.register
def _(metric: Auroc, labels: Array) -> Guess:
    return Guess(0.5, "any order of the samples", _CLASSES)


@guess_of.register
def _(metric: R2, labels: Array) -> Guess:
    return Guess(0.0, "always giving the mean of the labels", _NUMBERS)


@guess_of.register
def _(metric: Rmse, labels: Array) -> Guess:
    truth = np.asarray(labels, dtype=np.float64)
    return Guess(float(np.sqrt(truth.var(axis=0).mean())), "always giving the mean of the labels", _NUMBERS, 0.0)


@guess_of.register
def _(metric: Mae, labels: Array) -> Guess:
    truth = np.asarray(labels, dtype=np.float64)
    value = float(np.abs(truth - np.median(truth, axis=0)).mean())
    return Guess(value, "always giving the median of the labels", _NUMBERS, 0.0)


@guess_of.register
def _(metric: ExactMatch, labels: Array) -> Guess:
    value = float(_shares(np.array([str(text) for text in labels.tolist()])).max())
    # Long texts are seldom right to the last character.
    return Guess(value, "always giving the most frequent text", _TEXTS, value + _HARD * (1 - value))


@guess_of.register
def _(metric: ErrorRate, labels: Array) -> Guess:
    texts = [_symbols(text, words=metric.name == "wer") for text in labels.tolist()[:_COMPARED_TEXTS]]
    edits = sum(edit_distance(one, other) for one, other in zip(texts, texts[1:] + texts[:1], strict=True))
    value = min(edits / max(sum(map(len, texts)), 1), 1.0)
    return Guess(value, "giving nothing" if value >= 1 else "giving the text of another sample", _TEXTS, 0.0)


@guess_of.register
def _(metric: AveragePrecision, labels: Array) -> Guess:
    return Guess(0.0, "boxes anywhere", _BOXES, _HARD)


@guess_of.register
def _(metric: SegmentationMetric, labels: Array) -> Guess:
    inside = labels[(labels >= 0) & (labels < _NO_CLASS)]
    if not inside.size:
        return Guess(math.nan, "", _MAPS)
    shares = _shares(inside)
    value = float(shares.max())
    if metric.name == "miou":
        # Of maps of 0 and 1, those of 1 alone may count.
        value = min(value / len(shares), float(np.mean(inside == 1)) if inside.max() <= 1 else 1.0)
    return Guess(value, "giving every pixel the most frequent class", _MAPS)


@guess_of.register
def _(metric: RecallAt, labels: Array) -> Guess:
    truth = np.asarray(labels).reshape(-1)
    _, inverse, numbers = np.unique(truth, return_inverse=True, return_counts=True)
    same = (numbers[inverse] - 1) / max(len(truth) - 1, 1)
    paired = same[same > 0]
    value = float(np.mean(1 - (1 - paired) ** metric.k)) if len(paired) else math.nan
    return Guess(value, f"{metric.k} samples by chance" if metric.k > 1 else "a sample by chance", _CLASSES)


@guess_of.register
def _(metric: SignalRatio, labels: Array) -> Guess:
    if metric.name == "si-sdr":
        return Guess(0.0, "as much error as signal", _NUMBERS, None)
    truth = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
    value = decibels(np.full(len(truth), peak_of(truth) ** 2), truth.var(axis=1)).mean()
    return Guess(float(value), "one colour for each image", _NUMBERS, None)


def _numbers(labels: Array) -> Array:
    """Return classes `(n,)`, of one-hot rows too."""
    one_hot = labels.ndim == 2 and labels.dtype.kind in "fiub" and bool(np.all((labels == 0) | (labels == 1)))
    if one_hot and bool(np.all(labels.sum(axis=1) == 1)):
        return np.asarray(labels.argmax(axis=1))
    return labels.reshape(-1)


def _shares(kinds: Array) -> Array:
    """Return the share of each kind among all."""
    return np.asarray(np.unique(kinds, return_counts=True)[1] / max(kinds.size, 1))


def _symbols(text: object, *, words: bool) -> list[object]:
    """Return the characters or words of a text, or the classes of a padded sequence."""
    if isinstance(text, list):
        return [symbol for symbol in text if symbol >= 0]
    return list(str(text).split() if words else str(text))
