"""Agreement of two language models."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, chosen, misfit
from onnxopt.measure.tasks.tokens.masks import kept_steps
from onnxopt.measure.tasks.tokens.scores import chunks, divergence, log_probabilities, negative_log_likelihood
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

EDGES = np.logspace(-8, 2, 241)
"""Bins of a token's divergence in nats, each 10 % wide, for percentiles."""

_FIGURES = 6


@dataclass(frozen=True)
class TokenAgreement(Comparison):
    """Share of the baseline's probability that a candidate keeps per token: exp of minus the mean KL divergence.

    The divergence is the mean over all tokens, in nats. A drop of one point is 0.01 nats: the candidate's perplexity on
    text written by the baseline is 1 % higher. The 99th percentile of the divergence and the share of tokens with the
    same best guess are shown beside it; if the model predicts the next token of its input, both perplexities too. One
    sequence is one sample, because its tokens depend on each other. The mask leaves out padding.

    Source: Kullback and Leibler, "On information and sufficiency", 1951.

    Attributes:
        output: scores `(n, steps, vocabulary)`.
        tokens: the input of token numbers; None if perplexity does not follow from the inputs.
        mask: the input that is 0 at padding; None without one.
        probabilities: whether the scores are probabilities, not logits.
    """

    output: str
    tokens: str | None = None
    mask: str | None = None
    probabilities: bool = False
    name = "probability kept per token"
    unit: ClassVar[str] = "share"

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(n, 6 + bins)`: divergence, same guesses, tokens, costs before and after, targets; a histogram.

        Raises:
            DataError: ONX209 the output is not `(n, steps, vocabulary)`.
        """
        one, other = np.asarray(chosen(before, self.output)), np.asarray(chosen(after, self.output))
        if one.ndim != 3:
            raise misfit(f"the output has shape {list(one.shape)}", "Name an output [N, T, V].", where=self.output)
        rows = np.zeros((len(one), _FIGURES + len(EDGES) + 1))
        keep = kept_steps(feeds, self.mask, one.shape[:2])
        given = None if self.tokens is None else feeds.get(self.tokens)
        ids = None if given is None else np.asarray(given)
        for row, index in zip(rows, range(len(one)), strict=True):
            if one.shape != other.shape:
                self._lose(row, int(keep[index].sum()))
                continue
            for part in chunks(one.shape[1], one.shape[2]):
                self._add(
                    row, one[index], other[index], keep=keep[index], ids=None if ids is None else ids[index], part=part
                )
        return rows

    def _lose(self, row: Array, steps: int) -> None:
        row[:3] = 100.0 * steps, 0, steps
        row[-1] = steps

    def _add(self, row: Array, one: Array, other: Array, *, keep: Array, ids: Array | None, part: slice) -> None:
        first = log_probabilities(one[part], self.probabilities)
        second = log_probabilities(other[part], self.probabilities)
        kept = keep[part]
        nats = divergence(first, second)[kept]
        undefined = np.isnan(second).any(axis=1)
        same = (first.argmax(axis=1) == second.argmax(axis=1)) & ~undefined
        row[:3] += nats.sum(), same[kept].sum(), len(nats)
        row[_FIGURES:] += np.bincount(np.searchsorted(EDGES, nats), minlength=len(EDGES) + 1)
        if ids is None:
            return
        # The target of a step is the next token; neither may be padding.
        targets = np.append(ids[1:], 0)[part]
        known = (keep & np.append(keep[1:], False))[part] & (targets >= 0) & (targets < one.shape[1])
        row[3] += negative_log_likelihood(first[known], targets[known]).sum()
        row[4] += negative_log_likelihood(second[known], targets[known]).sum()
        row[5] += known.sum()

    @staticmethod
    def row(nats: Array, same: Array) -> Array:
        """Return the row of a text from the divergence of each token, and whether its best guess is the same."""
        bins = np.bincount(np.searchsorted(EDGES, nats), minlength=len(EDGES) + 1)
        return np.concatenate([[nats.sum(), same.sum(), len(nats)], np.zeros(_FIGURES - 3), bins])

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the share of probability kept per token."""
        total = counts @ rows[:, :3]
        return np.asarray(np.exp(-total[:, 0] / np.maximum(total[:, 2], 1)))

    def details(self, rows: Array) -> dict[str, float]:
        """Return mean and 99th percentile of the divergence, the share of same guesses, and perplexities."""
        nats, same, tokens, before, after, targets = rows[:, :_FIGURES].sum(axis=0)
        figures = {
            "KL divergence, nats": float(nats / max(tokens, 1)),
            "KL divergence, 99th percentile, nats": bin_of_quantile(rows[:, _FIGURES:].sum(axis=0), 0.99),
            "same best token": float(same / max(tokens, 1)),
        }
        if targets:
            figures["perplexity before"] = float(np.exp(before / targets))
            figures["perplexity after"] = float(np.exp(after / targets))
        return figures


def bin_of_quantile(histogram: Array, share: float) -> float:
    """Return the upper edge of the bin of `EDGES` that holds the quantile; 0 for the first bin."""
    if not histogram.sum():
        return 0.0
    index = int(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))
    return 0.0 if index == 0 else float(EDGES[min(index, len(EDGES) - 1)])
