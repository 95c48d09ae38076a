"""Batches of a decoder with a cache: prompts, and steps of some tokens behind them."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onnxopt.errors import DataError, NativeError, UsageError
from onnxopt.measure.generation.ports import one_input
from onnxopt.measure.generation.states import states_of, without_states
from onnxopt.measure.generation.walk import TokenPorts
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import Signature, TensorSpec, signature_of
from onnxopt.samples import Feeds
from onnxopt.samples.sequences import at_length

MOST_PROMPTS = 8
"""Most different prompts: each of them leaves a cache in memory."""


def keeps_tokens(signature: Signature) -> bool:
    """Return whether a model has a cache that gets longer with every token."""
    return any(state.grows for state in states_of(signature))


def refuse_single(tokens: int) -> None:
    """Refuse a prompt of a single token.

    Raises:
        UsageError: ONX112.
    """
    if tokens == 1:
        why = "a single token follows a prompt, and no length is that of one"
        hint = "Name the prompt too, such as 128:0.3,1:0.7: the longest length is read with an empty cache."
        raise UsageError("ONX112", "the length of the cache is not known", where="sequence", why=why, hint=hint)


class Prompts:
    """Prompts of one length, and the caches that they leave.

    Their tokens are those of the batches, one sample after another, and from the first one again. Inputs that are
    neither tokens nor a cache, such as the output of an encoder, stay those of a batch.

    Args:
        model: the decoder.
        drawn: batches of the data.
        tokens: length of the prompts.
        runtime: configuration of ONNX Runtime.

    Raises:
        DataError: ONX205 no batch has a token.
        UsageError: ONX112 the model takes no tokens, or a fixed number of them, or the prompt is a single one.
    """

    def __init__(self, model: ir.Model, drawn: Sequence[Feeds], tokens: int, runtime: Runtime) -> None:
        refuse_single(tokens)
        self._model, self._drawn, self._tokens, self._runtime = model, drawn, tokens, runtime
        self._signature = signature_of(model)
        self._states = states_of(self._signature)
        rest = without_states(self._signature, self._states).inputs
        ids = _tokens_of(self._signature, rest)
        self._ports = _ports(ids, rest)
        made = {ids.name, self._ports.mask, self._ports.positions, self._ports.switch}
        self._others = {spec.name: _axes_beside(ids, spec) for spec in rest if spec.name not in made}
        texts = [text for feeds in drawn for text in _texts(feeds, self._ports) if len(text)]
        if not texts:
            raise DataError("ONX205", "no sample has a token", where=ids.name, hint="Give texts.")
        self._stream, self._begins = np.concatenate(texts), np.cumsum([0, *map(len, texts[:-1])])

    def batches(self, length: int, count: int) -> list[Feeds]:
        """Return batches of `length` tokens: prompts, or if they are shorter than those, steps behind prompts.

        Raises:
            ModelError: ONX304 the model cannot be loaded.
            NativeError: ONX401 it cannot read a prompt of this length.
        """
        # Also where only prompts are timed: this tells a prompt that is too long from a model that cannot be run.
        kept = self._caches
        made = self._prompts
        if length != self._tokens:
            made = [{**self._feeds(number, self._tokens, length), **cache} for number, cache in enumerate(kept)]
        return [made[number % len(made)] for number in range(count)]

    @cached_property
    def _prompts(self) -> list[Feeds]:
        made = list[Feeds]()
        for number in range(min(len(self._drawn), MOST_PROMPTS)):
            feeds = self._feeds(number, 0, self._tokens)
            sizes, rows = self._sizes(feeds), len(feeds[self._ports.tokens])
            for state in self._states:
                name = state.input.name
                feeds[name] = _rows(state.start(sizes), rows) if state.grows else self._drawn[number][name]
            made.append(feeds)
        return made

    @cached_property
    def _caches(self) -> list[Feeds]:
        """The inputs of the caches behind each prompt."""
        session, names = Session(self._model, self._runtime), [state.output.name for state in self._states]
        found = list[Feeds]()
        for feeds in self._prompts:
            try:
                given = session.run(feeds, names)
            except NativeError as error:
                raise too_long(self._tokens, error) from error
            found.append({state.input.name: np.asarray(a) for state, a in zip(self._states, given, strict=True)})
        return found

    def _feeds(self, number: int, past: int, count: int) -> dict[str, np.ndarray]:
        """Return the inputs of the tokens behind `past` others, without the cache."""
        batch, places = self._drawn[number], past + np.arange(count)
        texts = range(number, number + len(batch[self._ports.tokens]))
        begins = (self._begins[text % len(self._begins)] for text in texts)
        tokens = np.stack([self._stream[(begin + places) % len(self._stream)] for begin in begins])
        others = at_length({name: batch[name] for name in self._others}, self._others, count)
        return {**others, **self._ports.feeds(tokens, past)}

    def _sizes(self, feeds: Feeds) -> dict[str, int]:
        """Return the sizes of axes with a name."""
        given = [(spec, feeds[spec.name].shape) for spec in self._signature.inputs if spec.name in feeds]
        pairs = [pair for spec, sizes in given for pair in zip(spec.shape or (), sizes, strict=False)]
        return {dim: size for dim, size in pairs if isinstance(dim, str)}


def too_long(tokens: int, error: NativeError) -> NativeError:
    """Return the error of a model that fails on its prompt."""
    what = f"the model cannot read a prompt of {tokens} tokens"
    hint = "Give a shorter one as the longest length: decoders have a limit, such as their table of positions."
    return NativeError("ONX401", what, where="sequence", why=error.why, hint=hint)


def _tokens_of(signature: Signature, rest: Sequence[TensorSpec]) -> TensorSpec:
    ids = one_input([spec for spec in rest if "encoder" not in spec.name.lower()], "id")
    what = "this decoder cannot be timed at lengths"
    if ids is None:
        hint = "Leave the option out: times are those of the data's own lengths then."
        raise UsageError("ONX112", what, where=str(signature), why="no input is that of the tokens", hint=hint)
    size = (ids.shape or ())[1]
    if isinstance(size, int):
        hint = "Export it with a free number of tokens."
        raise UsageError("ONX112", what, where=str(ids), why=f"it takes exactly {size} at a time", hint=hint)
    return ids


def _ports(ids: TensorSpec, rest: Sequence[TensorSpec]) -> TokenPorts:
    # A mask of the encoder's steps stays that of the data.
    own = [spec for spec in rest if "encoder" not in spec.name.lower()]
    mask, positions = one_input(own, "mask"), one_input(own, "position")
    switch = next((spec for spec in own if spec.dtype == "bool" and "cache" in spec.name), None)
    names = ["" if spec is None else spec.name for spec in (mask, positions, switch)]
    return TokenPorts(ids.name, ids.dtype, names[0], names[1], names[2], logits="")


def _axes_beside(ids: TensorSpec, spec: TensorSpec) -> tuple[int, ...]:
    """Return the axes of an input that are as long as the tokens: those of the same name."""
    name = (ids.shape or ())[1]
    return tuple(axis for axis, dim in enumerate(spec.shape or ()) if axis and dim is not None and dim == name)


def _texts(feeds: Feeds, ports: TokenPorts) -> list[np.ndarray]:
    """Return the tokens of each sample in a batch, without padding."""
    ids = np.asarray(feeds[ports.tokens])
    if not ports.mask:
        return list(ids)
    kept = np.asarray(feeds[ports.mask])[:, -ids.shape[1] :] != 0
    # Data without a mask for all of its tokens has no padding.
    return [row[keep] if keep.shape == row.shape else row for row, keep in zip(ids, kept, strict=True)]


def _rows(empty: np.ndarray, count: int) -> np.ndarray:
    """Return an empty cache for several texts; where only its first axis has no name, it is for one so far."""
    return np.repeat(empty, count, axis=0) if len(empty) == 1 < count else empty
