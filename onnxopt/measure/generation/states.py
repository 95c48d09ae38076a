"""Inputs that take the value of an output from the previous step, as in streaming and recurrent models."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxopt.errors import DataError, UsageError, nearest
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.model_file.signature import Dim

_IN = ("in", "input", "past", "prev", "previous", "cur", "current", "init", "initial")
_OUT = ("out", "output", "present", "new", "next", "updated", "n", "t")
_KEPT = ("state", "hidden", "cell", "cache", "past", "present", "prev", "mem", "rnn", "lstm", "gru", "buf", "ctx")
"""Words of which a name of a state has one; so do the names h and c alone."""
_SHORT = {"hn": "h", "ht": "h", "cn": "c", "ct": "c"}
_GROWS = ("past", "seq", "len", "time", "cache")


@dataclass(frozen=True)
class State:
    """An input, and the output whose value it takes in the next step."""

    input: TensorSpec
    output: TensorSpec

    @property
    def grows(self) -> bool:
        """Whether an axis gets longer with every step, as in a cache of keys and values."""
        return any(_is_growing(own, given) for own, given in self._axes())

    def start(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Return zeros: growing axes are empty, other free axes as long as `sizes` says, or 1."""
        shape = []
        for own, given in self._axes():
            if isinstance(own, int):
                shape.append(own)
            else:
                shape.append(0 if _is_growing(own, given) else sizes.get(own or "", 1))
        return np.zeros(shape, self.input.dtype)

    def _axes(self) -> list[tuple[Dim, Dim]]:
        own = self.input.shape or ()
        return list(zip(own, self.output.shape or (None,) * len(own), strict=True))


def _is_growing(own: Dim, given: Dim) -> bool:
    return not isinstance(own, int) and own != given and any(word in (own or "").lower() for word in _GROWS)


def states_of(signature: Signature) -> tuple[State, ...]:
    """Return the inputs that pair with an output by type, shape and name; none where no other input would be left."""
    found, taken = [], set[str]()
    for spec in signature.inputs:
        fitting = [o for o in signature.outputs if o.name not in taken and _alike(spec, o) and _is_state(spec, o)]
        own = _stem(spec.name)
        exact = [o for o in fitting if _stem(o.name) == own]
        near = [o for o in fitting if own[-1:] == ("0",) and _stem(o.name) == own[:-1]]
        if exact or near:
            output = (exact or near)[0]
            taken.add(output.name)
            found.append(State(spec, output))
    return tuple(found) if len(found) < len(signature.inputs) else ()


def named_states(signature: Signature, pairs: Sequence[str]) -> tuple[State, ...]:
    """Return the states that a user names, each as `INPUT=OUTPUT`.

    Raises:
        UsageError: ONX101 one cannot be read or does not fit, ONX102 there is no such input or output.
    """
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in signature.outputs}
    found = []
    for text in pairs:
        own, separator, given = text.partition("=")
        if not separator:
            raise UsageError("ONX101", "a state cannot be read", where=text, hint="Write INPUT=OUTPUT, such as h0=hn.")
        for name, known in ((own, inputs), (given, outputs)):
            if name not in known:
                raise UsageError("ONX102", f"the model has no {name!r}", where=text, hint=nearest(name, known))
        if not _alike(inputs[own], outputs[given]):
            why = f"{inputs[own]}, and {outputs[given]}"
            raise UsageError("ONX101", "a state and its output differ in type or shape", where=text, why=why)
        found.append(State(inputs[own], outputs[given]))
    if len(found) == len(inputs):
        raise UsageError("ONX101", "every input is a state", where=", ".join(pairs), hint="Leave the data input out.")
    return tuple(found)


def without_states(signature: Signature, states: Sequence[State]) -> Signature:
    """Return the signature of the inputs that every step needs."""
    kept = {state.input.name for state in states}
    return replace(signature, inputs=tuple(spec for spec in signature.inputs if spec.name not in kept))


def refuse_several(signature: Signature, size: int | None) -> None:
    """Refuse a model that steps a fixed number of sequences together.

    Raises:
        DataError: ONX203.
    """
    if size not in (None, 1):
        raise DataError(
            "ONX203",
            "states of several sequences at a time cannot be made",
            where=str(signature),
            why=f"the model steps {size} together",
            hint="Export it with a free batch axis, or of size 1.",
        )


def _alike(own: TensorSpec, given: TensorSpec) -> bool:
    if own.dtype != given.dtype or own.dtype in ("str", "object") or own.shape is None or given.shape is None:
        return False
    pairs = zip(own.shape, given.shape, strict=False)
    fixed = (a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
    return len(own.shape) == len(given.shape) and all(fixed)


def _is_state(own: TensorSpec, given: TensorSpec) -> bool:
    words = f"{own.name} {given.name}".lower()
    return any(word in words for word in _KEPT) or _stem(own.name)[:1] in (("h",), ("c",))


def _stem(name: str) -> tuple[str, ...]:
    """Return the words of a name without those that say input or output: past_key_values.0.key is 0 key."""
    plain = re.sub(r"(past|present)_key_values", "", name)
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", plain)]
    return tuple(_SHORT.get(word, word) for word in words if word not in (*_IN, *_OUT))
