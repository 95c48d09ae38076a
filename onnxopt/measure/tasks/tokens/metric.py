"""Language models against texts."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, are_probabilities, chosen, is_float, misfit
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.tasks.tokens.scores import chunks, log_probabilities, negative_log_likelihood
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class Perplexity(Metric):
    """Perplexity of the labels, over the tokens of all sequences; lower is better.

    Labels are the token numbers of the inputs `(n, steps)`: the scores of each step are compared with the label of the
    next. Negative numbers, as at padding, are left out.

    Source: Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks", 1977.

    Attributes:
        output: scores `(n, steps, vocabulary)`; None takes the first of that rank.
    """

    output: str | None = None
    name = "perplexity"
    higher_is_better: bool = False
    undefined: ClassVar[str] = "Give labels of two tokens or more."

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 2)`: the negative log-likelihood of the targets in nats, and their number."""
        name = self.output or next((key for key, v in outputs.items() if is_float(v) and v.ndim == 3), None)
        scores: Array = np.asarray(chosen(outputs, name)) if name is not None else np.empty(0)
        targets: Array = np.asarray(labels)
        if scores.ndim != 3 or targets.shape != scores.shape[:2] or targets.dtype.kind not in "iu":
            why = f"labels {targets.dtype} of shape {list(targets.shape)} for scores of shape {list(scores.shape)}"
            raise misfit(why, "Give the token numbers of the inputs as labels, -100 at padding.", where=self.name)
        if targets.max(initial=0) >= scores.shape[2]:
            why = f"token {targets.max()} of a vocabulary of {scores.shape[2]}"
            raise misfit(why, "Give the token numbers of the inputs as labels.", where=self.name)
        probabilities = are_probabilities(scores)
        rows = np.zeros((len(scores), 2))
        for index, (one, ids) in enumerate(zip(scores[:, :-1], targets[:, 1:], strict=True)):
            for part in chunks(*one.shape):
                known = ids[part] >= 0
                log_shares = log_probabilities(one[part][known], probabilities)
                rows[index] += negative_log_likelihood(log_shares, ids[part][known]).sum(), known.sum()
        return rows

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the perplexity of resampled sequences; NaN if they hold no target."""
        nats, targets = (counts @ rows).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(targets > 0, np.exp(nats / targets), np.nan))
