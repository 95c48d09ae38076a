"""Scores of a candidate's outputs against the baseline's, with the same statistics as a metric against labels."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, class_scores, predictions_of
from onnxopt.measure.metrics.score import Score
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array


class Comparison(Score):
    """The agreement of two sets of outputs; 1 is full agreement."""

    relative: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    @abstractmethod
    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(size, k)` statistics of a batch of `size` samples, from the baseline's and the candidate's outputs.

        `feeds` are the inputs of the batch, for tasks whose targets or padding follow from them.

        Raises:
            DataError: ONX209 the outputs cannot be compared in this way.
        """


def classes_of(outputs: Outputs, name: str | None) -> Array | None:
    """Return the class of each sample, `(n,)`, NaN where a score is NaN; None if no output holds classes."""
    scores = class_scores(outputs, name)
    if scores is not None and scores.values.ndim == 2:
        best = scores.values.argmax(axis=1).astype(np.float64)
        return np.where(np.isnan(scores.values).any(axis=1), np.nan, best)
    predicted = predictions_of(outputs, name)
    return predicted if predicted is not None and predicted.ndim == 1 else None
