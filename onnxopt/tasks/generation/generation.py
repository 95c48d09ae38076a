"""Decoders while they generate: time to the first token, tokens per second, perplexity and memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxopt.document.blocks import Displayed, Document
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.generation.memory import private_bytes
from onnxopt.measure.generation.perplexity import TextPerplexity, measure_perplexity
from onnxopt.measure.generation.speed import Decoder, GenerationSpeed, Length, measure_speed
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import Signature, as_graph
from onnxopt.model_file.given import Given, Several, by_name
from onnxopt.options.choices import refuse_non_positive
from onnxopt.options.lengths import USUAL_LENGTH
from onnxopt.pipeline import StageProgress
from onnxopt.samples import ReadOptions
from onnxopt.tasks.generation.decoder import decoder_of, read_texts, vocabulary_of
from onnxopt.tasks.generation.folders import all_folders, answers_read, open_folders
from onnxopt.tasks.generation.shown import generation_document

MADE_UP = 8
"""Number of prompts that are drawn without data."""


@dataclass(frozen=True)
class Generation(Displayed):
    """Decoders side by side, by name; the first is the baseline.

    Attributes:
        speed: time to the first token and tokens per second.
        perplexity: on the texts; empty without data.
        private_bytes: largest private memory in a fresh process, beyond that of the interpreter; None if unknown;
            empty for folders.
        document: the same as a table.
    """

    speed: Mapping[str, GenerationSpeed]
    perplexity: Mapping[str, TextPerplexity]
    private_bytes: Mapping[str, int | None]
    document: Document = field(repr=False)


def generation(
    models: Several,
    data: object = None,
    *,
    prompt_tokens: int = USUAL_LENGTH,
    new_tokens: int = 32,
    seconds: float = 5.0,
    limit: int | None = None,
    runtime: Runtime | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: StageProgress | None = None,
) -> Generation:
    """Measure decoders with a cache while they generate; the models take turns on the same prompts.

    Folders of encoder and decoders take turns too: on the same inputs of the encoder, and with perplexity on the
    answers of the first folder.

    Args:
        models: one, several, or several by name, or folders of encoder and decoders; the first is the baseline.
        data: texts with a tokenizer (`read`, or that of the folder), or arrays of tokens; None for tokens drawn at
            random, without perplexity.
        prompt_tokens: tokens of a prompt; inputs of an encoder are as long as they are.
        new_tokens: tokens that are generated behind it.
        seconds: measurement time.
        limit: largest number of texts.
        runtime: configuration of ONNX Runtime.
        read: options of the data readers.
        seed: of prompts, of the order of runs and of intervals.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 a number is too small, ONX112 a model is no decoder with a cache, ONX114 it does not state
            the size of its vocabulary.
        ModelError: ONX308 the models have different inputs; further codes as in docs/errors.md.
        DataError: ONX205 no text has two tokens; further codes as in docs/errors.md.
    """
    refuse_non_positive(prompt_tokens=prompt_tokens, seconds=seconds, limit=limit)
    if new_tokens < 2:
        hint = "Give 2 or more: the rate is that of the tokens behind the first one."
        raise UsageError("ONX101", "too few tokens to generate", where=f"new_tokens={new_tokens}", hint=hint)
    length, chosen, report = Length(prompt_tokens, new_tokens), runtime or Runtime(), progress or (lambda *_: None)
    given = by_name(models)
    if folders := all_folders(given):
        opened = open_folders(folders, data, length=length, limit=limit, runtime=chosen, read=read)
        starts = [text.start for text in opened.texts]
        fast = measure_speed(opened.chains, starts, length, chosen, seconds=seconds, seed=seed, progress=_timed(report))
        answers = {} if data is None else answers_read(opened, length, chosen, seed)
        shown = generation_document(fast, answers, {}, length=length, data=data, answers=True)
        return Generation(fast, answers, {}, shown)
    decoders, signature = _decoders(given)
    first = next(iter(decoders.values()))
    texts = [] if data is None else read_texts(data, signature, first.ports, limit=limit, read=read)
    prompts = _drawn(first, length, seed) if data is None else _prompts(texts, length)
    speed = measure_speed(
        decoders,
        prompts,
        length,
        chosen,
        seconds=seconds,
        seed=seed,
        progress=_timed(report),
    )
    perplexity: dict[str, TextPerplexity] = {}
    if texts:
        perplexity = measure_perplexity(
            decoders,
            texts,
            length,
            chosen,
            seed=seed,
            progress=lambda done, total: report("texts for perplexity", done, total),
        )
    memory = {name: private_bytes(decoder, prompts[0], length, chosen) for name, decoder in decoders.items()}
    return Generation(
        speed, perplexity, memory, generation_document(speed, perplexity, memory, length=length, data=data)
    )


def _timed(report: StageProgress) -> Callable[[int, int], None]:
    return lambda done, total: report("timed epochs", done, total)


def _decoders(models: Mapping[str, Given]) -> tuple[dict[str, Decoder], Signature]:
    found = dict[str, Decoder]()
    signature: Signature | None = None
    for name, given in models.items():
        decoder, own = decoder_of(name, as_graph(given))
        if signature is None:
            signature = own
        inputs, wanted = ([spec.name for spec in each.inputs] for each in (own, signature))
        if inputs != wanted:
            why = f"{', '.join(inputs)} against {', '.join(wanted)}"
            raise ModelError("ONX308", "the models do not have the same inputs", where=name, why=why)
        found[name] = decoder
    assert signature is not None
    return found, signature


def _prompts(texts: Sequence[np.ndarray], length: Length) -> list[np.ndarray]:
    """Return prompts of the stated length: the texts one behind the other, repeated where they are too short."""
    joined = np.concatenate(texts)
    joined = np.tile(joined, -(-length.prompt // len(joined)))
    count = min(len(joined) // length.prompt, len(texts))
    return [joined[i * length.prompt : (i + 1) * length.prompt] for i in range(max(count, 1))]


def _drawn(decoder: Decoder, length: Length, seed: int) -> list[np.ndarray]:
    size = vocabulary_of(decoder)
    if size is None:
        hint = "Give texts with --data, and their tokenizer with --vocab."
        raise UsageError("ONX114", "the model does not state the size of its vocabulary", where="data", hint=hint)
    rng = np.random.default_rng(seed)
    return [rng.integers(0, size, length.prompt) for _ in range(MADE_UP)]
