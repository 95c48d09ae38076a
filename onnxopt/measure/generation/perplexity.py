"""Perplexity of texts that a decoder reads through its cache: a prompt at once, the rest token by token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxopt.measure.generation.speed import Decoder, Length
from onnxopt.measure.generation.walk import Reads
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.statistics import Interval, bootstrap_draws, interval_of_draws
from onnxopt.measure.tasks.tokens.scores import divergence, log_probabilities

FEWEST_TEXTS = 8
"""Fewest texts for an interval."""


@dataclass(frozen=True)
class TextPerplexity:
    """The perplexity of texts: the exponential of the mean loss of a token; and the divergence from the baseline.

    Attributes:
        value: infinite where the model gives NaN or infinite logits.
        ratio: this perplexity over the baseline's, with its interval over texts; None for the baseline, and for fewer
            than eight texts.
        divergence: mean KL divergence of the next token from the baseline's, in nats, with its interval over texts;
            None as for `ratio`.
        same_token: share of the tokens for which baseline and model have the same best guess; None for the baseline.
        tokens: number of tokens that were predicted.
        texts: number of texts.
    """

    value: float
    ratio: Interval | None
    divergence: Interval | None
    same_token: float | None
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
        sessions = {name: Session(decoder.model, runtime) for name, decoder in decoders.items()}
        readers = {
            name: partial(_read, decoder, sessions[name], long_enough, length) for name, decoder in decoders.items()
        }
        return perplexity_of(readers, long_enough, seed=seed, progress=progress)

    return interruptible(work)


def _read(decoder: Decoder, session: Session, texts: Sequence[np.ndarray], length: Length, number: int) -> np.ndarray:
    return shares_of(decoder.walk(session), texts[number], length)


def perplexity_of(
    readers: Mapping[str, Callable[[int], np.ndarray]],
    texts: Sequence[np.ndarray],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, TextPerplexity]:
    """Return the perplexity of texts in each model, whose reader gives the log-probabilities of a text by its number.

    Args:
        readers: by the name of the model; the first is the baseline.
        texts: tokens, two or more each.
        seed: of the interval.
        progress: called with the finished and the total number of texts of all models.
    """
    total, found = len(readers) * len(texts), dict[str, list[TextFigures]]((name, []) for name in readers)
    for number, text in enumerate(texts):
        baseline: np.ndarray | None = None
        for name, read in readers.items():
            shares = read(number)
            baseline = shares if baseline is None else baseline
            found[name].append(figures_of(shares, baseline, text))
            if progress is not None:
                progress(sum(map(len, found.values())), total)
    tables = {name: np.array(rows, dtype=np.float64) for name, rows in found.items()}
    first = next(iter(tables.values()))
    return {name: _summary(table, None if table is first else first, seed) for name, table in tables.items()}


TextFigures = tuple[float, int, float, int]
"""Of one text: the sum of the losses in nats, the tokens, the sum of the divergences in nats, the same best guesses."""


def shares_of(walk: Reads, text: np.ndarray, length: Length) -> np.ndarray:
    """Return the log-probabilities of the tokens behind the first one, shape `(tokens - 1, vocabulary)`."""
    prompt = max(min(length.prompt, len(text) // 2), 1)
    read = text[: prompt + length.new]
    rows = [walk.feed(read[:prompt])]
    rows += [walk.feed(read[i : i + 1]) for i in range(prompt, len(read) - 1)]
    with np.errstate(invalid="ignore"):
        return log_probabilities(np.concatenate(rows)[: len(read) - 1], probabilities=False)


def figures_of(shares: np.ndarray, baseline: np.ndarray, text: np.ndarray) -> TextFigures:
    """Return the figures of one text from the log-probabilities of a model and of the baseline."""
    count = len(shares)
    undefined = np.isnan(shares).any(axis=1)
    loss = float("inf") if undefined.any() else -float(shares[np.arange(count), text[1 : count + 1]].sum())
    same = (shares.argmax(axis=1) == baseline.argmax(axis=1)) & ~undefined
    return loss, count, float(divergence(baseline, shares).sum()), int(same.sum())


def _summary(table: np.ndarray, baseline: np.ndarray | None, seed: int) -> TextPerplexity:
    loss, tokens, _, same = table.sum(axis=0)
    found = TextPerplexity(float(np.exp(loss / tokens)), None, None, None, int(tokens), len(table))
    if baseline is None or not np.isfinite(baseline[:, 0]).all():
        return found
    return replace(
        found,
        ratio=ratio_of(baseline, table, seed),
        divergence=mean_of(table[:, 2], tokens=table[:, 1], seed=seed),
        same_token=float(same / tokens),
    )


def mean_of(nats: np.ndarray, *, tokens: np.ndarray, seed: int) -> Interval | None:
    """Return the mean of a token, bootstrapped over texts; None for too few texts.

    Args:
        nats: the sum of each text.
        tokens: the number of tokens of each text.
        seed: of the resamples.
    """
    if len(tokens) < FEWEST_TEXTS:
        return None

    def mean(counts: np.ndarray) -> np.ndarray:
        return np.asarray((counts @ nats) / (counts @ tokens))

    value = float(mean(np.ones((1, len(tokens))))[0])
    return interval_of_draws(value, bootstrap_draws(mean, len(tokens), seed=seed))


def ratio_of(baseline: np.ndarray, other: np.ndarray, seed: int) -> Interval | None:
    """Return the ratio of two perplexities on the same texts, bootstrapped over texts; None for too few texts.

    Args:
        baseline: rows of (sum of losses, tokens, ...).
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
