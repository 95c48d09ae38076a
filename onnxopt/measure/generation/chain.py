"""Encoder and decoder, or decoders of the first and of later tokens, that read a text together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.measure.generation.walk import TokenPorts
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.samples import Feeds


@dataclass(frozen=True)
class DecoderStep(TokenPorts):
    """Inputs and outputs of one decoder behind an encoder or alone, by name; "" for an input that it lacks.

    Attributes:
        hidden: output of the encoder.
        hidden_mask: mask of the encoder.
        start: the inputs of the cache before the first token, by name; none where the decoder takes no cache.
        grows: each input of the cache that gets longer with every step, with the output of this step that it takes.
        kept: each input of the cache that the first step alone fills, such as the keys of the encoder, with its output.
    """

    hidden: str
    hidden_mask: str
    start: Mapping[str, np.ndarray]
    grows: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TextStart:
    """The beginning of a text.

    Attributes:
        given: inputs of the encoder; empty without one.
        tokens: the first tokens.
    """

    given: Feeds
    tokens: np.ndarray


@dataclass(frozen=True)
class Chain:
    """Models that read a text together.

    Attributes:
        encoder: the encoder; None for a decoder alone.
        encoded: the output of the encoder that decoders take.
        encoder_mask: the mask among the inputs of the encoder; "" without one.
        first: the decoder of the first step, and its inputs and outputs.
        later: the decoder of later steps; None if it is that of the first.
    """

    encoder: Loadable | None
    encoded: str
    encoder_mask: str
    first: tuple[Loadable, DecoderStep]
    later: tuple[Loadable, DecoderStep] | None = None

    def load(self, runtime: Runtime) -> "Begin":
        """Load all models; return how a text begins.

        Raises:
            ModelError: ONX304 a model cannot be loaded.
        """
        encoder = None if self.encoder is None else Session(self.encoder, runtime)
        first = Session(self.first[0], runtime)
        later = first if self.later is None else Session(self.later[0], runtime)
        return lambda start: (ChainWalk(self, encoder, (first, later), start.given), start.tokens)


Begin = Callable[[TextStart], "tuple[ChainWalk, np.ndarray]"]
"""How a text begins: its reader, and the first tokens to read."""


class ChainWalk:
    """One text, read from left to right; the encoder runs with the first tokens.

    Attributes:
        latest: the inputs of the decoder in the latest step.
    """

    def __init__(self, chain: Chain, encoder: Session | None, decoders: tuple[Session, Session], given: Feeds) -> None:
        self._chain, self._encoder, self._decoders, self._given = chain, encoder, decoders, given
        self._fixed: dict[str, np.ndarray] = {}
        self._cache: dict[str, np.ndarray] = dict((chain.later or chain.first)[1].start)
        self._past = 0
        self.latest: Feeds = {}

    def behind(self, encoder: Session) -> "ChainWalk":
        """Return the start of the same text behind another encoder."""
        return ChainWalk(self._chain, encoder, self._decoders, self._given)

    def feed(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read further tokens; return the logits behind each of them, shape `(tokens, vocabulary)`."""
        begins = self._past == 0
        if begins and self._encoder is not None:
            (hidden,) = self._encoder.run(self._given, [self._chain.encoded])
            self._fixed = {"hidden": np.asarray(hidden)}
        first = self._chain.first[1]
        reader = first if begins or self._chain.later is None else self._chain.later[1]
        # The first step fills what later steps read; a later one only what grows.
        filled = (*reader.grows, *reader.kept) if begins else reader.grows
        session = self._decoders[0 if reader is first else 1]
        self.latest = self._feeds(reader, tokens)
        logits, *kept = session.run(self.latest, [reader.logits, *(given for _, given in filled)])
        self._cache |= {name: np.asarray(array) for (name, _), array in zip(filled, kept, strict=True)}
        self._past += len(tokens)
        return np.asarray(logits[0])

    def _feeds(self, step: DecoderStep, tokens: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        feeds = step.feeds(tokens, self._past)
        feeds |= {name: self._cache[name] for name in step.start}
        if step.hidden:
            feeds[step.hidden] = self._fixed["hidden"]
        if step.hidden_mask:
            feeds[step.hidden_mask] = self._hidden_mask(step.kind)
        return feeds

    def _hidden_mask(self, kind: str) -> np.ndarray:
        known = self._given.get(self._chain.encoder_mask) if self._chain.encoder_mask else None
        size = self._fixed["hidden"].shape[1]
        # An encoder that shortens its input, as those of speech do, has no mask of that length.
        if known is None or known.shape[-1] != size:
            return np.ones((1, size), kind)
        return np.asarray(known, kind)


def greedy(walk: ChainWalk, start: np.ndarray, count: int, end: frozenset[int]) -> np.ndarray:
    """Return the tokens of `start` and up to `count` further ones, each the most probable; a token of `end` ends it."""
    tokens = [int(token) for token in start]
    given: np.ndarray = start
    for _ in range(count):
        tokens.append(int(walk.feed(given)[-1].argmax()))
        if tokens[-1] in end:
            break
        given = np.array(tokens[-1:])
    return np.array(tokens)
