"""Recognition of language models by evidence."""

from collections.abc import Sequence

import numpy as np

from onnxopt.measure.metrics.outputs import Outputs, are_probabilities, is_float
from onnxopt.measure.tasks.evidence import named_like, only_output, token_inputs
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.measure.tasks.tokens.agreement import TokenAgreement
from onnxopt.measure.tasks.tokens.masks import mask_of
from onnxopt.measure.tasks.tokens.scores import log_probabilities, negative_log_likelihood
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array

_OTHER = ("mask", "position")
"""Words in the names of whole numbers per token that are no tokens."""


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return a language model if an output scores every token of the vocabulary at every input token; else None."""
    for name, value in outputs.items():
        if not is_float(value) or value.ndim != 3 or not value.size:
            continue
        tokens = _tokens(feeds, value.shape)
        # A tagger has fewer classes than the vocabulary has tokens; features of tokens have telling names.
        if tokens is None or named_like(name, ("hidden", "embed", "feature", "encod", "present", "past")):
            continue
        vocabulary = value.shape[2]
        # Features wider than the largest token by chance are the exception: most texts use high numbers.
        reached = int(np.asarray(feeds[tokens]).max()) >= vocabulary // 4
        if not (reached or named_like(name, ("logit", "lm", "prob", "score")) or are_probabilities(value)):
            continue
        reason = f"{name!r} scores {vocabulary} tokens at each token of {tokens!r}"
        cache = _cache(outputs, name)
        if cache:
            reason += f", and errors of the cache ({cache[0]}, ...) show there"
        judged = comparison({name: value}, (name,), facts, options, feeds)
        return Recognized("tokens", (name, *cache), judged, reason)
    return None


def _cache(outputs: Outputs, scores: str) -> tuple[str, ...]:
    """Return the outputs that hold keys and values for later steps.

    They are no answer of the model. What is wrong in them changes the scores of the tokens that are read with them:
    within a step of several tokens those of the later ones. By number they are off by percents where scores are equal.
    """
    return tuple(
        name
        for name, value in outputs.items()
        if name != scores and is_float(value) and value.ndim >= 3 and named_like(name, ("present",))
    )


def comparison(
    outputs: Outputs, names: Sequence[str], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> TokenAgreement:
    """Return the comparison of two language models, requested by the user.

    Raises:
        DataError: ONX209 no output is `(n, steps, vocabulary)`, or the mask is not an input.
    """
    feeds = feeds or {}
    name = only_output(outputs, names, lambda v: is_float(v) and v.ndim == 3, "scores of tokens [N, T, V]")
    value = np.asarray(outputs[name])
    tokens = _tokens(feeds, value.shape)
    mask = mask_of(feeds, value.shape[:2], options.mask)
    probabilities = are_probabilities(value)
    next_token = tokens is not None and predicts_next(value, np.asarray(feeds[tokens]), probabilities)
    return TokenAgreement(name, tokens if next_token else None, mask, probabilities)


def predicts_next(scores: Array, ids: Array, probabilities: bool) -> bool:
    """Return whether scores fit the next token better than the input token, unlike a model that fills gaps."""
    if scores.shape[1] < 2:
        return False
    log_shares = log_probabilities(scores[0, :-1], probabilities)
    costs = [negative_log_likelihood(log_shares, targets).mean() for targets in (ids[0, 1:], ids[0, :-1])]
    return bool(costs[0] < costs[1])


def _tokens(feeds: Feeds, shape: tuple[int, ...]) -> str | None:
    """Return the input with a token number for every step: the one with the largest numbers."""
    fitting = {name: array for name, array in token_inputs(feeds).items() if array.shape == shape[:2] and array.size}
    fitting = {name: array for name, array in fitting.items() if array.min() >= 0 and not named_like(name, _OTHER)}
    if not fitting:
        return None
    name = max(fitting, key=lambda key: (int(fitting[key].max()), named_like(key, ("input", "token"))))
    return name if int(fitting[name].max()) < shape[2] else None
