"""Folders of encoder and decoders while they generate, measured as single decoders are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt import model_file
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.generation.chain import Begin, Chain
from onnxopt.measure.generation.perplexity import TextPerplexity, perplexity_of, shares_of
from onnxopt.measure.generation.speed import Length
from onnxopt.measure.made_up import made_up_samples
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file.given import Given
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.tasks.parts.roles import FolderParts, parts_of
from onnxopt.tasks.parts.texts import ReadText, texts_of
from onnxopt.tasks.variants.layout import baselines_of, families_of
from onnxopt.tasks.variants.published import with_tokenizer

MADE_UP = 8
"""Number of inputs that are made up without data."""


@dataclass(frozen=True)
class Folders:
    """Folders that read the same texts, by name; the first is the baseline.

    Attributes:
        chains: the models of each.
        texts: inputs of the encoders with the answers of the first folder.
    """

    chains: Mapping[str, Chain]
    texts: Sequence[ReadText]


def all_folders(models: Mapping[str, Given]) -> dict[str, Path]:
    """Return the folders among models; none where all are models.

    Raises:
        UsageError: ONX112 some are folders and others are not.
    """
    found = {name: Path(one) for name, one in models.items() if isinstance(one, str | Path) and Path(one).is_dir()}
    if found and len(found) < len(models):
        hint = "Give folders of encoder and decoders alone, or decoders alone."
        raise UsageError("ONX112", "folders and models are no rows of one table", where=", ".join(models), hint=hint)
    return found


def open_folders(
    folders: Mapping[str, Path],
    data: object,
    *,
    length: Length,
    limit: int | None,
    runtime: Runtime,
    read: ReadOptions | None,
) -> Folders:
    """Return the models of folders and texts: samples of the first encoder, or made-up ones, and its answers to them.

    Raises:
        UsageError: ONX112 a folder has no encoder, or its models do not read a text together.
        FileError: ONX501 there is no model in a folder, ONX505 it cannot be read.
        ModelError: ONX308 the encoders have different inputs.
        DataError: ONX201 to ONX209 the samples do not fit the encoder.
    """
    parts = {name: _parts(folder) for name, folder in folders.items()}
    name, first = next(iter(parts.items()))
    wanted = [spec.name for spec in first.inputs.inputs]
    for other, one in parts.items():
        inputs = [spec.name for spec in one.inputs.inputs]
        if inputs != wanted:
            why = f"{', '.join(inputs)} against {', '.join(wanted)}"
            raise ModelError("ONX308", "the models do not have the same inputs", where=other, why=why)
    assert first.encoder is not None
    if data is None:
        samples = made_up_samples(model_file.load(first.encoder), runtime, limit or MADE_UP)
    else:
        options = with_tokenizer(folders[name], read)
        samples = open_samples(data, first.inputs, options=options, limit=limit, batch_size=1)
    texts = texts_of(first, samples, folders[name], length, runtime)
    return Folders({name: one.chain for name, one in parts.items()}, texts)


def _parts(folder: Path) -> FolderParts:
    models = baselines_of(families_of(folder))
    found = parts_of(folder, models)
    if found.encoder is None:
        hint = f"Name its decoder: {found.decoders[0]}."
        raise UsageError("ONX112", "the folder has no encoder", where=str(folder), hint=hint)
    return found


def answers_read(opened: Folders, length: Length, runtime: Runtime, seed: int) -> dict[str, TextPerplexity]:
    """Return the perplexity of the first folder's answers in each folder, read token by token through its cache."""

    def reads(begin: Begin, text: ReadText) -> np.ndarray:
        return shares_of(begin(text.start)[0], text.tokens, Length(len(text.start.tokens), length.new))

    def work() -> dict[str, TextPerplexity]:
        loaded = {name: chain.load(runtime) for name, chain in opened.chains.items()}
        readers = {name: lambda i, begin=begin: reads(begin, opened.texts[i]) for name, begin in loaded.items()}
        return perplexity_of(readers, [text.tokens for text in opened.texts], seed=seed)

    return interruptible(work)
