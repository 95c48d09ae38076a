"""Files of a folder whose encoder and decoders read a text together, each judged on what it gets and gives there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt import model_file
from onnxopt.errors import DataError, FileError, ModelError, NativeError, UsageError
from onnxopt.measure.accuracy import Evaluation, drop
from onnxopt.measure.chance import Chance
from onnxopt.measure.generation.chain import Begin, ChainWalk, TextStart
from onnxopt.measure.generation.speed import Length
from onnxopt.measure.made_up import made_up_samples
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.measure.runtime.session import MAPPED, Session
from onnxopt.options.runtime import Runtime
from onnxopt.samples import Feeds, Samples, open_samples
from onnxopt.tasks.parts.roles import FolderParts, parts_of
from onnxopt.tasks.parts.texts import AGREEMENT, ReadText, score_readers, texts_of
from onnxopt.tasks.variants.layout import baselines_of, families_of
from onnxopt.tasks.variants.reference import (
    Half,
    Opened,
    Reference,
    Terms,
    judged_by,
    judged_words,
    reference,
    size_of_file,
)
from onnxopt.tasks.variants.verdict import JudgedFile, Standing, needs_variance, verdict

LENGTH = Length(32, 16)
"""Of a text: at most 16 tokens of the float32 models' answer."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Encoder and decoders of a folder, and texts that they read.

    Attributes:
        parts: the float32 models.
        samples: inputs of the encoder.
        texts: the same with the float32 models' own answers.
        made_up: whether the inputs are generated.
        runtime: configuration of ONNX Runtime.
        begin: how a text begins; the models are loaded.
    """

    parts: FolderParts
    samples: Samples
    texts: Sequence[ReadText]
    made_up: bool
    runtime: Runtime
    begin: Begin

    @property
    def decoders(self) -> tuple[Path, ...]:
        """The decoders that read the texts."""
        return self.parts.decoders[: 1 if self.parts.chain.later is None else 2]


@dataclass(frozen=True)
class DecoderInputs:
    """The inputs of one decoder while a folder reads texts, made as they are read: first tokens, or a later one.

    Attributes:
        reading: the folder.
        steps: whether a sample is a later step, for each of the steps of a text.
    """

    reading: Reading
    steps: tuple[bool, ...]
    labels: None = None
    stacks = False

    @property
    def name(self) -> str:
        """The name of the data."""
        data = "made-up inputs; on real data fidelity may differ" if self.reading.made_up else self.reading.samples.name
        return f"its inputs while the folder reads {Path(data).name or data}"

    def __len__(self) -> int:
        return len(self.reading.texts) * len(self.steps)

    def read(self, index: int) -> Feeds:
        """Return the inputs of a step: all tokens of a text at once, or the one behind its first half."""
        number, step = divmod(index, len(self.steps))
        text = self.reading.texts[number]
        walk, _ = self.reading.begin(text.start)
        if not self.steps[step]:
            walk.feed(text.tokens[:-1])
            return walk.latest
        half = len(text.tokens) // 2
        walk.feed(text.tokens[:half])
        walk.feed(text.tokens[half : half + 1])
        return walk.latest


class _Widened(Half):
    """A session whose outputs of 16 bits become float32, which the decoder behind it takes."""

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> list[Any]:
        found = (np.asarray(array) for array in super().run(feeds, outputs))
        return [array.astype(np.float32) if array.dtype == np.float16 else array for array in found]


@dataclass(frozen=True, eq=False)
class EncoderReference:
    """The encoder of a folder; other files of it are judged by the answers of the float32 decoders behind them.

    Attributes:
        reading: the folder.
        alone: the float32 file without the decoders.
        baseline: the score of the float32 file.
        chance: the level of answers to other texts.
        seed: the seed of intervals.
    """

    reading: Reading
    alone: Reference
    baseline: Evaluation
    chance: Chance
    seed: int

    @property
    def size_bytes(self) -> int:
        """The size in bytes of the float32 file with its external data."""
        return self.alone.size_bytes

    @property
    def runtime(self) -> Runtime:
        """Configuration of ONNX Runtime."""
        return self.reading.runtime

    @property
    def words(self) -> str:
        """A sentence on the comparison, and on its inputs."""
        names = " and ".join(path.name for path in self.reading.decoders)
        choice = f"Judged by the answers of {names} behind it, which read nothing else of the input."
        return judged_words(choice, AGREEMENT.name, self.reading.samples, made_up=self.reading.made_up)

    def judged(self, path: Path, label: str, *, name: Path | None = None) -> JudgedFile:
        """Load and run a file, and compare the answers behind it; a fault of the file is a verdict, not an error."""
        size = size_of_file(path)
        found = JudgedFile(name or path, label, False, Standing.BROKEN, "", size, self.size_bytes / max(size, 1))
        return judged_by(self._compared, found, path, self.runtime, kind=_Widened)

    def _compared(self, found: JudgedFile, _: Path, session: Session) -> JudgedFile:
        reading = self.reading

        def begin(start: TextStart) -> tuple[ChainWalk, np.ndarray]:
            walk, tokens = reading.begin(start)
            return walk.behind(session), tokens

        score = score_readers(reading.begin, begin, reading.texts, LENGTH)
        lost = drop(self.baseline, score, seed=self.seed)
        share = nan
        if not lost.broken and needs_variance(score, self.chance):
            share = self.alone.explained_by(session)
        standing, reason = verdict(score, lost, self.chance, share, self.alone.allowed)
        unit = score.metric.unit
        return replace(
            found, standing=standing, reason=reason, score=score, drop=lost, metric=AGREEMENT.name, unit=unit
        )


def opened_beside(path: Path, terms: Terms) -> Opened:
    """Open a float32 file: with the models of its folder, where it is the encoder or a decoder of one, else alone.

    Raises:
        OnnxoptError: as `reference`.
    """
    place = path.parent.parent if path.parent.name == "onnx" else path.parent
    models = baselines_of(families_of(place))
    return opened_in(path, terms, readings_of(place, models, terms) if path in models else ())


def opened_in(path: Path, terms: Terms, readings: Sequence[Reading]) -> Opened:
    """Open a float32 file that is one of the models of some readings, or alone; raises as `reference`."""
    reading = next((one for one in readings if path in (one.parts.encoder, *one.decoders)), None)
    if reading is None:
        return reference(path, terms)
    if path == reading.parts.encoder:
        return _encoder(path, reading, terms)
    alone = len(reading.decoders) == 1
    steps = (False, True) if alone else (path == reading.decoders[1],)
    return reference(path, replace(terms, data=DecoderInputs(reading, steps), limit=None))


def readings_of(folder: Path, models: Sequence[Path], terms: Terms) -> tuple[Reading, ...]:
    """Return how the models of a folder read texts together: none without an encoder, or where that fails.

    A merged decoder and a pair of decoders in one folder are two readings.

    Raises:
        DataError: ONX201 the vocabulary cannot be read.
        UsageError: ONX108 a package is missing, ONX113 texts have no vocabulary.
    """
    if len(models) < 2:
        return ()
    try:
        for path in models:
            survive_loading(path)
        first = parts_of(folder, models)
        if first.encoder is None:
            return ()
        found = [_reading(first, folder, terms)]
        rest = [path for path in first.decoders if path not in found[0].decoders]
        if rest:
            found.append(_reading(parts_of(folder, [first.encoder, *rest]), folder, terms))
    except (ModelError, NativeError, FileError):
        return ()
    except UsageError as error:
        if error.code not in ("ONX112", "ONX114"):
            raise
        return ()
    except DataError as error:
        if error.code == "ONX201":
            raise
        return ()
    return tuple(found)


def _reading(parts: FolderParts, folder: Path, terms: Terms) -> Reading:
    assert parts.encoder is not None
    graph, runtime = model_file.load(parts.encoder), terms.runtime or Runtime()
    if runtime == Runtime() and not all(model_file.fits_protobuf(model_file.load(path)) for path in parts.decoders):
        runtime = MAPPED
    if terms.data is None:
        samples = made_up_samples(graph, runtime, terms.limit)
    else:
        samples = open_samples(terms.data, parts.inputs, options=terms.read, limit=terms.limit)
    samples = samples.with_batch_size(1)
    texts = texts_of(parts, samples, folder, LENGTH, runtime)
    return Reading(parts, samples, texts, terms.data is None, runtime, parts.chain.load(runtime))


def _encoder(path: Path, reading: Reading, terms: Terms) -> EncoderReference:
    begin, texts = reading.begin, reading.texts
    others = dict(zip((id(one.start) for one in texts), [*texts[1:], texts[0]], strict=True))

    def other(start: TextStart) -> tuple[ChainWalk, np.ndarray]:
        walk, _ = begin(others[id(start)].start)
        return walk, start.tokens

    apart = score_readers(begin, other, texts, LENGTH)
    chance = Chance(max(apart.metric.value(apart.rows), 0.0) if len(texts) > 1 else nan, {})
    baseline = score_readers(begin, begin, texts, LENGTH)
    return EncoderReference(reading, reference(path, terms), baseline, chance, terms.seed)
