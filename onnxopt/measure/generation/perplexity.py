"""Perplexity of texts that a decoder reads through its cache: a prompt at once, the rest token by token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from onnxopt.measure.generation.speed import Decoder, Length
from onnxopt.measure.generation.walk import Walk
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.statistics import Interval, bootstrap_draws, interval_of_draws

FEWEST_TEXTS = 8
"""Fewest texts for an interval."""


@dataclass(frozen=True)
class TextPerplexity:
    """The perplexity of texts: the exponential of the mean loss of a token.

    Attributes:
        value: infinite where the model gives NaN or infinite logits.
        ratio: this perplexity over the baseline's, with its interval over texts; None for the baseline, and for fewer
            than eight texts.
        tokens: number of tokens that were predicted.
        texts: number of texts.
    """

    value: float
    ratio: Interval | None
    tokens: int
    texts: int


def measure_perplexity(
    decoders: Mapping[str, Decoder],
    texts: Sequence[np.ndarray],
    length: Length,
    runtime: Runtime,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, TextPerplexity]:
    """Return the perplexity of each decoder on the same texts; the first decoder is the baseline.

    Of each text the first `length.prompt` tokens (at most half of it) are read at once, as a prompt, and up to
    `length.new` further ones one by one. Every token behind the first one counts.

    Args:
        decoders: by name.
        texts: tokens; texts of one token are left out.
        length: of the prompt and the rest.
        runtime: configuration of ONNX Runtime.
        seed: of the interval.
        progress: called with the finished and the total number of texts of all models.
    """
    long_enough = [text for text in texts if len(text) > 1]

    def work() -> dict[str, TextPerplexity]:
        losses = dict[str, np.ndarray]()
        total = len(decoders) * len(long_enough)
        for name, decoder in decoders.items():
            session, found = Session(decoder.model, runtime), list[tuple[float, int]]()
            for text in long_enough:
                found.append(text_loss(decoder.walk(session), text, length))
                if progress is not None:
                    progress(len(losses) * len(long_enough) + len(found), total)
            losses[name] = np.array(found)
        first = next(iter(losses.values()))
        return {
            name: TextPerplexity(
                value=float(np.exp(table[:, 0].sum() / table[:, 1].sum())),
                ratio=None if table is first else ratio_of(first, table, seed),
                tokens=int(table[:, 1].sum()),
                texts=len(table),
            )
            for name, table in losses.items()
        }

    return interruptible(work)


def text_loss(walk: Walk, text: np.ndarray, length: Length) -> tuple[float, int]:
    """Return the sum of the losses of a text's tokens in nats, and their number."""
    prompt = max(min(length.prompt, len(text) // 2), 1)
    read = text[: prompt + length.new]
    rows = [walk.feed(read[:prompt])]
    rows += [walk.feed(read[i : i + 1]) for i in range(prompt, len(read) - 1)]
    logits = np.concatenate(rows)[: len(read) - 1].astype(np.float64)
    if not np.isfinite(logits.max(axis=-1)).all() or np.isnan(logits).any():
        return float("inf"), len(read) - 1
    chosen = log_softmax(logits, axis=-1)[np.arange(len(read) - 1), read[1:]]
    return float(-chosen.sum()), len(read) - 1


def ratio_of(baseline: np.ndarray, other: np.ndarray, seed: int) -> Interval | None:
    """Return the ratio of two perplexities on the same texts, bootstrapped over texts; None for too few texts.

    Args:
        baseline: rows of (sum of losses, tokens).
        other: the same of the other model.
        seed: of the resamples.
    """
    if len(baseline) < FEWEST_TEXTS or not np.isfinite(other[:, 0]).all():
        return None
    difference, tokens = other[:, 0] - baseline[:, 0], baseline[:, 1]

    def ratio(counts: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp((counts @ difference) / (counts @ tokens)))

    value = float(ratio(np.ones((1, len(tokens))))[0])
    return interval_of_draws(value, bootstrap_draws(ratio, len(tokens), seed=seed))
