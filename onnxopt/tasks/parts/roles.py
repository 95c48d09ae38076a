"""The parts of a folder: encoder, decoder of the first tokens, decoder of later ones, found by inputs and outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxopt import model_file
from onnxopt.errors import UsageError
from onnxopt.measure.generation.chain import Chain, DecoderStep
from onnxopt.measure.generation.ports import one_input
from onnxopt.measure.generation.states import State, states_of, without_states
from onnxopt.measure.runtime.session import Loadable
from onnxopt.model_file import Signature, TensorSpec, signature_of
from onnxopt.samples.text import from_encoder
from onnxopt.tasks.variants.layout import baselines_of, families_of

ENCODER, DECODER = "encoder", "decoder"


@dataclass(frozen=True)
class FolderParts:
    """A folder whose models read a text together.

    Attributes:
        chain: the models, as they are in the folder.
        encoder: the file of the encoder; None for a decoder alone.
        decoders: the files of the decoder: one, or that of the first and that of later tokens; others that hold the
            same weights follow, such as that pair behind a merged decoder.
        inputs: the inputs that come from the samples: those of the encoder, or the tokens of a decoder.
    """

    chain: Chain
    encoder: Path | None
    decoders: tuple[Path, ...]
    inputs: Signature

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """The files of each part, by its name."""
        found = {} if self.encoder is None else {ENCODER: (self.encoder,)}
        return {**found, DECODER: self.decoders}

    def with_files(self, used: Mapping[Path, Loadable]) -> Chain:
        """Return the chain with other files in the place of some."""
        chain = self.chain
        later = None
        if chain.later is not None:
            later = (used.get(self.decoders[1], chain.later[0]), chain.later[1])
        encoder = None if self.encoder is None else used.get(self.encoder, chain.encoder or self.encoder)
        first = (used.get(self.decoders[0], chain.first[0]), chain.first[1])
        return Chain(encoder, chain.encoded, chain.encoder_mask, first, later)


def folder_of_parts(folder: Path) -> bool:
    """Return whether a folder has several float32 models, or one decoder with a cache.

    Raises:
        FileError: ONX501 there is no model in it, ONX505 it cannot be read.
    """
    models = baselines_of(families_of(folder))
    return len(models) > 1 or (len(models) == 1 and has_cache(signature_of(model_file.load(models[0]))))


def parts_of(folder: Path, models: Sequence[Path]) -> FolderParts:
    """Return the roles of the models of a folder.

    Raises:
        UsageError: ONX112 they do not read a text together.
    """
    signatures = {path: signature_of(model_file.load(path)) for path in models}
    decoders = {path: one for path, one in signatures.items() if _is_decoder(one)}
    others = [path for path in models if path not in decoders]
    if not decoders:
        raise _no_parts(folder, "no model takes tokens and gives scores of tokens and a cache")
    if len(others) > 1:
        raise _no_parts(folder, f"{', '.join(path.name for path in others)} may all be the encoder")
    encoder = others[0] if others else None
    encoded = "" if encoder is None else _encoded(folder, signatures[encoder])
    used, steps = _steps(folder, decoders, encoded != "")
    mask = "" if encoder is None else _name(one_input(signatures[encoder].inputs, "mask"))
    chain = Chain(encoder, encoded, mask, (used[0], steps[0]), None if len(steps) == 1 else (used[1], steps[1]))
    rest = tuple(path for path in decoders if path not in used)
    inputs = signatures[encoder] if encoder is not None else _from_text(decoders[used[0]])
    return FolderParts(chain, encoder, (*used, *rest), inputs)


def _is_decoder(signature: Signature) -> bool:
    scores = [name for name in _of_steps(signature) if "present" not in name]
    cache = [o for o in signature.outputs if "present" in o.name.lower()]
    return bool(scores and cache and one_input(_rest(signature), "id"))


def _of_steps(signature: Signature) -> list[str]:
    """Return the outputs of numbers for each step, shape (batch, steps, width)."""
    return [o.name for o in signature.outputs if "float" in o.dtype and len(o.shape or ()) == 3]


def has_cache(signature: Signature) -> bool:
    """Return whether a model is a decoder that takes the keys and values of earlier steps."""
    return _is_decoder(signature) and _rest(signature) != signature.inputs


def _rest(signature: Signature) -> tuple[TensorSpec, ...]:
    """Return the inputs beside the cache."""
    return tuple(spec for spec in signature.inputs if "past" not in spec.name.lower())


def _encoded(folder: Path, signature: Signature) -> str:
    fitting = _of_steps(signature)
    if not fitting:
        raise _no_parts(folder, "the encoder has no output of shape (batch, steps, width)")
    return next((name for name in fitting if "hidden" in name), fitting[0])


def _steps(
    folder: Path, decoders: dict[Path, Signature], encoded: bool
) -> tuple[tuple[Path, ...], tuple[DecoderStep, ...]]:
    """Return the files that read a text, and their inputs and outputs: one file for all tokens, or two."""
    cached = {path: one for path, one in decoders.items() if any("past" in spec.name.lower() for spec in one.inputs)}
    merged = [path for path, one in cached.items() if not encoded or _takes_hidden(one)]
    plain = [path for path in decoders if path not in cached]
    whole = [path for path in merged if _switch(cached[path])]
    later = [path for path in cached if path not in merged] or [path for path in cached if "with_past" in path.name]
    # A merged decoder first: programs that find it load it, and a pair of files beside it holds the same weights.
    merged, later = (whole, []) if whole else (merged, later)
    if plain and later:
        first, second = decoders[plain[0]], cached[later[0]]
        pairs = states_of(Signature(second.inputs, first.outputs))
        grows, kept = _split(pairs)
        own = _split(states_of(second))[0]
        one = _step(folder, plain[0], first, start=(), grows=grows, kept=kept)
        other = _step(folder, later[0], second, start=pairs, grows=own, kept=())
        return (plain[0], later[0]), (one, other)
    if not merged:
        raise _no_parts(folder, "no decoder reads the first tokens and later ones")
    signature = cached[merged[0]]
    pairs = states_of(signature)
    grows, kept = _split(pairs)
    return (merged[0],), (_step(folder, merged[0], signature, start=pairs, grows=grows, kept=kept),)


def _split(pairs: Sequence[State]) -> tuple[tuple[State, ...], tuple[State, ...]]:
    """Return the pairs of the decoder's own cache, and those of the encoder's keys and values."""
    kept = tuple(pair for pair in pairs if from_encoder(pair.input.name))
    return tuple(pair for pair in pairs if pair not in kept), kept


def _step(
    folder: Path,
    path: Path,
    signature: Signature,
    *,
    start: Sequence[State],
    grows: Sequence[State],
    kept: Sequence[State],
) -> DecoderStep:
    rest = without_states(signature, start).inputs
    hidden = next((spec for spec in rest if "float" in spec.dtype and "hidden" in spec.name.lower()), None)
    hidden_mask = next((spec for spec in rest if "mask" in spec.name and "encoder" in spec.name), None)
    plain = tuple(spec for spec in rest if spec not in (hidden, hidden_mask))
    tokens, mask, positions = (one_input(plain, word) for word in ("id", "mask", "position"))
    switch = _switch(signature)
    found = (tokens, mask, positions, switch, hidden, hidden_mask)
    other = [spec.name for spec in rest if spec not in found]
    if tokens is None or other:
        raise _no_parts(folder, f"{path.name} needs {', '.join(other) or 'no tokens'} too")
    taken = {pair.output.name for pair in (*grows, *kept)}
    scores = [
        o.name for o in signature.outputs if o.name not in taken and "float" in o.dtype and len(o.shape or ()) == 3
    ]
    scores = [name for name in scores if "present" not in name] or scores
    return DecoderStep(
        tokens=tokens.name,
        kind=tokens.dtype,
        mask=_name(mask),
        positions=_name(positions),
        switch=_name(switch),
        hidden=_name(hidden),
        hidden_mask=_name(hidden_mask),
        logits=next((name for name in scores if "logit" in name), scores[0]),
        start={pair.input.name: pair.start({}) for pair in start},
        grows=tuple((pair.input.name, pair.output.name) for pair in grows),
        kept=tuple((pair.input.name, pair.output.name) for pair in kept),
    )


def _switch(signature: Signature) -> TensorSpec | None:
    """Return the input that chooses the branch of a merged decoder."""
    return next((spec for spec in signature.inputs if spec.dtype == "bool" and "cache" in spec.name), None)


def _name(spec: TensorSpec | None) -> str:
    return "" if spec is None else spec.name


def _takes_hidden(signature: Signature) -> bool:
    return any("float" in spec.dtype and "hidden" in spec.name.lower() for spec in signature.inputs)


def _from_text(signature: Signature) -> Signature:
    """Return the inputs of a decoder that come from a text."""
    rest = tuple(spec for spec in _rest(signature) if spec.dtype in ("int32", "int64"))
    return Signature(tuple(TensorSpec(s.name, s.dtype, (None, None)) for s in rest), signature.outputs)


def _no_parts(folder: Path, why: str) -> UsageError:
    hint = (
        "Encoder and decoder, decoders of first and later tokens, or a decoder with a cache are searched together. "
        "Optimize others one by one, or quantize the whole folder: onnxopt quantize FOLDER --mode dynamic."
    )
    return UsageError("ONX112", "the models do not read a text together", where=str(folder), why=why, hint=hint)
