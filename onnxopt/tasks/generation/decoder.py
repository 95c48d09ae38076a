"""The parts of a decoder, by the names and types of its inputs and outputs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxopt.errors import DataError, UsageError
from onnxopt.measure.generation.ports import one_input
from onnxopt.measure.generation.speed import Decoder
from onnxopt.measure.generation.states import State, states_of, without_states
from onnxopt.measure.generation.walk import DecoderPorts
from onnxopt.model_file import Signature, signature_of
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.samples.text import from_encoder


def decoder_of(name: str, model: ir.Model) -> tuple[Decoder, Signature]:
    """Return a model as a decoder with a cache, and the signature of the inputs that come from a text.

    Its inputs are tokens, a mask, positions, the cache, and the switch of merged decoders; its outputs logits and the
    cache. The cache is found as the states of streaming models are (`onnxopt.measure.generation.states`).

    Raises:
        UsageError: ONX112 the model is no such decoder.
    """
    signature = signature_of(model)
    states = tuple(state for state in states_of(signature) if state.grows)
    if not states:
        raise _no_decoder(name, "no input takes the keys and values that an output gave")
    rest = without_states(signature, states).inputs
    own = tuple(spec for spec in rest if not from_encoder(spec.name))
    parts = {"tokens": one_input(own, "id"), "mask": one_input(own, "mask"), "positions": one_input(own, "position")}
    switch = next((spec for spec in rest if spec.dtype == "bool" and "cache" in spec.name), None)
    tokens = parts["tokens"]
    if tokens is None:
        raise _no_decoder(name, "no input takes tokens")
    known = {spec.name for spec in (*parts.values(), switch) if spec is not None}
    other = [spec.name for spec in rest if spec.name not in known]
    if other:
        behind = any(map(from_encoder, other))
        raise _no_decoder(name, f"it needs {', '.join(other)} too", _BEHIND_ENCODER if behind else _WITH_CACHE)
    names = {role: "" if spec is None else spec.name for role, spec in parts.items()}
    ports = DecoderPorts(
        **names,
        kind=tokens.dtype,
        switch="" if switch is None else switch.name,
        logits=_logits(name, signature, states),
        caches=tuple((state.input.name, state.output.name) for state in states),
    )
    from_text = tuple(replace(spec, shape=(None, None)) for spec in parts.values() if spec is not None)
    start = {state.input.name: state.start({}) for state in states}
    return Decoder(model, ports, start), replace(signature, inputs=from_text)


def _logits(name: str, signature: Signature, states: Sequence[State]) -> str:
    taken = {state.output.name for state in states}
    fitting = [
        spec.name
        for spec in signature.outputs
        if spec.name not in taken and "float" in spec.dtype and len(spec.shape or ()) == 3
    ]
    if len(fitting) != 1:
        raise _no_decoder(name, f"{len(fitting)} outputs may be logits, of shape (batch, tokens, vocabulary)")
    return fitting[0]


def read_texts(
    data: object, signature: Signature, ports: DecoderPorts, *, limit: int | None, read: ReadOptions | None
) -> list[np.ndarray]:
    """Return the tokens of each text, without padding.

    Raises:
        DataError: ONX205 no text has two tokens; further codes as in docs/errors.md.
    """
    samples = open_samples(data, signature, options=read, limit=limit, batch_size=1)
    texts = []
    for feeds in samples:
        ids = np.asarray(feeds[ports.tokens])[0]
        texts.append(ids[np.asarray(feeds[ports.mask])[0] != 0] if ports.mask else ids)
    if not any(len(text) > 1 for text in texts):
        raise DataError("ONX205", "no text has two tokens", where=samples.name, hint="Give longer texts.")
    return texts


def vocabulary_of(decoder: Decoder) -> int | None:
    """Return the number of tokens that the logits tell apart; None if the model does not state it."""
    output = next(spec for spec in signature_of(decoder.model).outputs if spec.name == decoder.ports.logits)
    size = (output.shape or (None,))[-1]
    return size if isinstance(size, int) else None


_WITH_CACHE = "Give decoders with a cache of keys and values, such as decoder_with_past or a merged one."
_BEHIND_ENCODER = "It reads behind an encoder: name the folder of both."


def _no_decoder(name: str, why: str, hint: str = _WITH_CACHE) -> UsageError:
    return UsageError("ONX112", "this measures decoders with a cache", where=name, why=why, hint=hint)
