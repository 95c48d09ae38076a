"""The cache of a decoder in integers: ranges from texts that it reads, and the perplexity with it."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.errors import UsageError
from onnxopt.measure.generation.perplexity import measure_perplexity
from onnxopt.measure.generation.speed import Decoder, Length
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.options.choices import refuse_non_positive
from onnxopt.pipeline import StageProgress
from onnxopt.quantization.cache import float_caches, with_integer_caches
from onnxopt.samples import ReadOptions
from onnxopt.tasks.generation.decoder import decoder_of, read_texts
from onnxopt.tasks.generation.shown import perplexity_words

BITS = (8, 4)
_RANGES, _JUDGED = 64, 200
"""Most texts for ranges, and most others for the perplexity; with few texts both are the same."""
_FEW = 32
_LENGTH = Length(32, 16)


def with_cache_of(
    model: ir.Model,
    data: object,
    bits: int = 8,
    *,
    read: ReadOptions | None = None,
    progress: StageProgress | None = None,
) -> tuple[ir.Model, str]:
    """Return a decoder whose cache is integers, and what that costs in perplexity.

    Args:
        model: a decoder whose attention is GroupQueryAttention (not modified).
        data: texts with a tokenizer (`read`), or arrays of tokens.
        bits: 8 or 4.
        read: options of the data readers.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 no such number of bits, ONX112 the model has no such cache.
        DataError: ONX205 no text has two tokens; further codes as in docs/errors.md.
    """
    refuse_non_positive(bits=bits)
    if bits not in BITS:
        raise UsageError("ONX101", "a cache has 8 or 4 bits", where=f"bits={bits}", hint="Give one of them.")
    caches = float_caches(model)
    if not caches:
        what = "this is for decoders with GroupQueryAttention"
        why = "no GroupQueryAttention takes keys and values in float32 from the caller"
        hint = "onnxruntime-genai's model builder writes decoders with it."
        raise UsageError("ONX112", what, where="the model", why=why, hint=hint)
    decoder, signature = decoder_of("the model", model)
    texts = read_texts(data, signature, decoder.ports, limit=_RANGES + _JUDGED, read=read)
    few = len(texts) < 2 * _FEW
    ranged, judged = (texts, texts) if few else (texts[: len(texts) // 2][:_RANGES], texts[len(texts) // 2 :][:_JUDGED])
    made = with_integer_caches(model, _largest(decoder, [cache.present for cache in caches], ranged), bits)
    changed, _ = decoder_of("the result", made)
    name = f"a cache of {bits} bits"
    found = measure_perplexity(
        {"float32": decoder, name: changed},
        judged,
        _LENGTH,
        Runtime(),
        progress=None if progress is None else lambda done, total: progress("texts for perplexity", done, total),
    )
    words = f"Perplexity {found['float32'].value:.4g} with a cache in float32, {found[name].value:.4g} with {name}."
    if found[name].ratio is not None:
        words += f" {perplexity_words(name, found[name])}"
    return made, f"{len(caches)} caches in {bits} bits, ranges from {len(ranged)} texts. {words}"


def _largest(decoder: Decoder, outputs: Sequence[str], texts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the largest magnitude of each channel of keys and values, shape (heads, size of a head)."""
    session = Session(decoder.model, Runtime())
    found = dict[str, np.ndarray]()
    for text in texts:
        given = session.run({**decoder.ports.feeds(text, 0), **decoder.start}, list(outputs))
        for name, array in zip(outputs, given, strict=True):
            most = np.abs(np.asarray(array)).max(axis=(0, 2))
            found[name] = most if name not in found else np.maximum(found[name], most)
    return found
