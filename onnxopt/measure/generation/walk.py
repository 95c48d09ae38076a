"""A decoder that keeps earlier tokens in its cache. Few imports: a separate process runs it too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Run = Callable[[Mapping[str, np.ndarray], Sequence[str]], Sequence[Any]]
"""Runs a model: inputs by name, and the names of the outputs to return."""


@dataclass(frozen=True)
class TokenPorts:
    """Inputs of a decoder for tokens, and the output of their scores, by name; "" for an input that it lacks.

    Attributes:
        tokens: numbers of tokens, shape `(texts, tokens)`.
        kind: type of the tokens, the mask and the positions.
        mask: ones for all tokens, those in the cache included.
        positions: of the tokens in the text.
        switch: says whether the cache holds something, in a merged decoder.
        logits: output, shape `(1, tokens, vocabulary)`.
    """

    tokens: str
    kind: str
    mask: str
    positions: str
    switch: str
    logits: str

    def feeds(self, tokens: Sequence[int] | np.ndarray, past: int) -> dict[str, np.ndarray]:
        """Return the inputs of tokens that follow `past` others, of one text or of several, `(texts, tokens)`."""
        texts = np.atleast_2d(np.asarray(tokens, self.kind))
        rows, count = texts.shape
        feeds = {self.tokens: texts}
        if self.mask:
            feeds[self.mask] = np.ones((rows, past + count), self.kind)
        if self.positions:
            feeds[self.positions] = np.tile(np.arange(past, past + count, dtype=self.kind), (rows, 1))
        if self.switch:
            feeds[self.switch] = np.array([past > 0])
        return feeds


@dataclass(frozen=True)
class DecoderPorts(TokenPorts):
    """Inputs and outputs of a decoder with a cache.

    Attributes:
        caches: each input of the cache with the output that it takes in the next step.
    """

    caches: tuple[tuple[str, str], ...]


class Walk:
    """One text, read from left to right.

    Args:
        run: runs the model.
        ports: the names of its inputs and outputs.
        start: the empty cache.
    """

    def __init__(self, run: Run, ports: DecoderPorts, start: Mapping[str, np.ndarray]) -> None:
        self._run, self._ports, self._cache = run, ports, dict(start)
        self._outputs = [ports.logits, *(output for _, output in ports.caches)]
        self._past = 0

    def feed(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read further tokens; return the logits behind each of them, shape `(tokens, vocabulary)`."""
        ports = self._ports
        feeds = {**ports.feeds(tokens, self._past), **self._cache}
        logits, *kept = self._run(feeds, self._outputs)
        self._cache = {name: array for (name, _), array in zip(ports.caches, kept, strict=True)}
        self._past += len(tokens)
        return np.asarray(logits[0])


class Reads(Protocol):
    """One text, read from left to right."""

    def feed(self, tokens: Sequence[int] | np.ndarray, /) -> np.ndarray:
        """Read further tokens; return the logits behind each of them, shape `(tokens, vocabulary)`."""


def generate(
    walk: Reads, prompt: np.ndarray, count: int, clock: Callable[[], int], after_step: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Read `prompt` and generate `count` tokens, each the most probable one.

    Args:
        walk: at the start of a text.
        prompt: tokens.
        count: tokens to generate; the end of the text does not end it.
        clock: returns nanoseconds.
        after_step: called after each run of the model.

    Returns:
        The time to the first token, and the time from there to the last one, in nanoseconds.
    """
    begun = clock()
    token = int(walk.feed(prompt)[-1].argmax())
    first = clock()
    after_step()
    rest = 0
    for _ in range(count - 1):
        before = clock()
        token = int(walk.feed((token,))[-1].argmax())
        rest += clock() - before
        after_step()
    return first - begun, rest
