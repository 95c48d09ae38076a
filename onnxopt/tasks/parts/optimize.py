"""A folder of encoder and decoder, or of a decoder with a cache, optimized with one budget for the whole."""

import json
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from onnxopt.document.blocks import Displayed, Document
from onnxopt.errors import UsageError
from onnxopt.measure.generation.speed import Length
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import atomic_write_text
from onnxopt.options.keywords import with_named, with_options
from onnxopt.options.reading import ReadOptions
from onnxopt.options.search import SearchOptions
from onnxopt.pipeline import Context, StageProgress
from onnxopt.run.job import budget_of
from onnxopt.samples import open_samples
from onnxopt.search.parts import split_parts
from onnxopt.target import target_of
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.roles import parts_of
from onnxopt.tasks.parts.search import PartsFound, search_parts
from onnxopt.tasks.parts.shown import parts_document
from onnxopt.tasks.parts.texts import texts_of
from onnxopt.tasks.parts.timing import prompt_and_steps, timing_of
from onnxopt.tasks.parts.written import write_parts
from onnxopt.tasks.variants.folder import refuse_new_folder
from onnxopt.tasks.variants.layout import baselines_of, families_of
from onnxopt.tasks.variants.published import WHOLE, with_tokenizer

RECORD = "parts.json"
_TAKEN = ("max_drop", "goal", "confidence", "require", "limit", "seed", "latency_s", "target", "sequence")
"""Options of a search that hold for a folder."""


@dataclass(frozen=True)
class OptimizedParts(Displayed):
    """A folder whose parts were optimized together.

    Attributes:
        found: every form of every part, the combinations that were tried, and the winner.
        out: the new folder; None without a winner.
        document: the same as a table.
    """

    found: PartsFound
    out: Path | None
    document: Document = field(repr=False)


@with_options(SearchOptions)
def optimize_parts(
    folder: str | Path,
    data: object,
    *,
    options: SearchOptions | None = None,
    out: str | Path = "onnxopt-run",
    prompt_tokens: int = 32,
    new_tokens: int = 16,
    runtime: Runtime | None = None,
    read: ReadOptions | None = None,
    progress: StageProgress | None = None,
    **named: Any,
) -> OptimizedParts:
    """Find the best form of each part of a folder within one budget, and write the folder again as `out`/model.

    The parts read texts as a program does: the encoder once, then token by token through their own caches. Behind an
    encoder the texts are the baseline's answers.

    Args:
        folder: encoder and decoder (of first and later tokens, or merged), or a decoder with a cache.
        data: samples of the encoder, or texts of a decoder.
        options: options of the search; those that hold for a folder are max_drop, goal, confidence, require, limit,
            seed, latency_s, target and sequence: the length of a prompt, or of the encoder's inputs, and 1, with their
            weights in the time.
        out: folder to write `model` and `parts.json` into.
        prompt_tokens: tokens of a decoder's prompt, unless `sequence` names them.
        new_tokens: tokens that are generated.
        runtime: configuration of ONNX Runtime.
        read: options of the data readers; the vocabulary is the folder's tokenizer.json unless it names one.
        progress: called with the step, the finished and the total amount.
        named: fields of `options` that replace its own.

    Raises:
        UsageError: ONX112 the models do not read a text together, or an option does not hold for a folder.
        FileError: ONX501 there is no folder or no float32 model in it, ONX502 the new folder exists, ONX503 it cannot
            be written.
        DataError: ONX201 to ONX209 the samples do not fit.
    """
    options = with_named(options or SearchOptions(), named, optimize_parts)
    refuse_other(options)
    folder, out, chosen = Path(folder), Path(out), runtime or Runtime()
    refuse_new_folder(out / WHOLE, folder, made=True)
    if options.sequence is not None:
        prompt_tokens = prompt_and_steps(options.sequence)[0]
    models = baselines_of(families_of(folder))
    for path in models:
        survive_loading(path)
    parts = parts_of(folder, models)
    allowed = budget_of(options.max_drop, None).allowed(1.0)
    samples = open_samples(data, parts.inputs, options=with_tokenizer(folder, read), limit=options.limit, batch_size=1)
    split, length = split_parts(samples, None, options.seed), Length(prompt_tokens, new_tokens)
    report = progress or (lambda *_: None)
    with tempfile.TemporaryDirectory() as place:
        searched = texts_of(parts, split.search, folder, length, chosen)
        job = PartsJob(
            parts=parts,
            search=searched,
            holdout=texts_of(parts, split.holdout, folder, length, chosen),
            length=length,
            timing=timing_of(parts, searched, length, options.sequence, runtime=chosen, seed=options.seed),
            options=options,
            allowed=allowed,
            context=Context(target_of(options.target), seed=options.seed),
            place=Path(place),
            runtime=chosen,
        )
        found = search_parts(job, report)
        out.mkdir(parents=True, exist_ok=True)
        written = None
        if found.winner is not None:
            used = {path: file for form in found.winner.forms for path, file in form.files.items()}
            written = write_parts(folder, out / WHOLE, used)
        document = parts_document(folder, job, found, written)
    atomic_write_text(out / RECORD, json.dumps(document.data, indent=1) + "\n", overwrite=True)
    return OptimizedParts(found, written, document)


def refuse_other(options: SearchOptions) -> None:
    """Refuse options that do not hold for a folder; raises UsageError ONX112."""
    for one in fields(options):
        if one.name not in _TAKEN and getattr(options, one.name) != one.default:
            hint = f"Those that do: {', '.join(_TAKEN)}."
            raise UsageError("ONX112", "this option does not hold for a folder of parts", where=one.name, hint=hint)
