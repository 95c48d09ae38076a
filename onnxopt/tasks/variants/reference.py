"""The float32 file, opened once, and every other file judged beside it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.errors import DataError, FileError, ModelError, NativeError, OnnxoptError
from onnxopt.measure.chance import Chance, chance_of, explained
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.known_outputs import KnownOutputs
from onnxopt.measure.made_up import made_up_samples
from onnxopt.measure.repeatable import random_nodes
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.measure.runtime.session import MAPPED, Session
from onnxopt.model_file import signature_of
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.tasks import TaskOptions
from onnxopt.run.job import budget_of
from onnxopt.samples import Feeds, Samples, open_samples
from onnxopt.tasks.variants.verdict import JudgedFile, Standing, needs_variance, verdict


@dataclass(frozen=True)
class Terms:
    """The terms by which files are judged.

    Attributes:
        data: samples; None for made-up inputs.
        max_drop: `1pp` or `1%`; None for 1pp.
        tasks: the tasks as which outputs are judged.
        runtime: configuration of ONNX Runtime; None for its defaults, and as little memory as possible for large files.
        read: options of the data readers.
        limit: largest number of samples.
        seed: the seed of intervals.
    """

    data: object = None
    max_drop: str | float | None = None
    tasks: TaskOptions | None = None
    runtime: Runtime | None = None
    read: ReadOptions | None = None
    limit: int | None = None
    seed: int = 0


class Half(Session):
    """A session that is fed float32 where it takes float16, as published files of 16 bits sometimes do."""

    def bound(
        self, feeds: Feeds, outputs: Sequence[str] | None = None, options: Any = None
    ) -> Callable[[], Sequence[Any]]:
        """Return the bare native run of one batch."""
        return super().bound({name: self._cast(name, array) for name, array in feeds.items()}, outputs, options)

    @cached_property
    def _halves(self) -> frozenset[str]:
        return frozenset(i.name for i in self.native.get_inputs() if i.type == "tensor(float16)")

    def _cast(self, name: str, array: np.ndarray) -> np.ndarray:
        return array.astype(np.float16) if name in self._halves and array.dtype == np.float32 else array


def open_file(path: Path, runtime: Runtime, kind: type[Session] = Half) -> Session:
    """Load a file as a program would, in a separate process first, which a crash of the runtime ends.

    Args:
        path: the path of the file.
        runtime: configuration of ONNX Runtime.
        kind: of the session.

    Raises:
        ModelError: ONX301 to ONX305 it cannot be loaded.
        FileError: ONX501 it does not exist.
    """
    survive_loading(path)
    try:
        return kind(path, runtime)
    except ModelError:
        model_file.load(path)  # it names damaged and missing parts, which the runtime's message may not
        raise


class Opened(Protocol):
    """A float32 file that other files are judged beside."""

    @property
    def size_bytes(self) -> int:
        """The size in bytes of the file with its external data."""

    @property
    def runtime(self) -> Runtime:
        """Configuration of ONNX Runtime."""

    @property
    def words(self) -> str:
        """A sentence on the comparison, and on its inputs."""

    def judged(self, path: Path, label: str, *, name: Path | None = None) -> JudgedFile:
        """Load and run a file, and compare it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The float32 file, run on the samples once.

    Attributes:
        graph: the graph of the file.
        size_bytes: the size in bytes of the file with its external data.
        samples: samples that every file is run on.
        made_up: whether the inputs are generated.
        runtime: configuration of ONNX Runtime.
        judge: compares outputs.
        chance: the level of answers that ignore the inputs.
        allowed: the largest drop of a good file.
    """

    graph: ir.Model
    size_bytes: int
    samples: Samples
    made_up: bool
    runtime: Runtime
    judge: FidelityJudge
    chance: Chance
    allowed: float

    @cached_property
    def _known(self) -> KnownOutputs:
        return KnownOutputs(lambda: Session(self.graph, self.runtime))

    @property
    def words(self) -> str:
        """A sentence on the comparison of files with the baseline, and on its inputs."""
        return judged_words(self.judge.choice, self.judge.metric_name, self.samples, made_up=self.made_up)

    def judged(self, path: Path, label: str, *, name: Path | None = None) -> JudgedFile:
        """Load and run a file, and compare it; a fault of the file is a verdict, not an error.

        Args:
            path: the path of the file, which may be a temporary one.
            label: its type.
            name: path that the file will have.
        """
        found = JudgedFile(name or path, label, False, Standing.BROKEN, "", size_of_file(path))
        found = replace(found, ratio=self.size_bytes / max(found.size_bytes, 1))
        return judged_by(self._compared, found, path, self.runtime)

    def explained_by(self, session: Session) -> float:
        """Return the share of the baseline's variance in another file's outputs; NaN without any variance.

        Raises:
            ModelError: ONX308 the outputs differ in name.
            NativeError: ONX401 a model cannot be run.
        """
        return explained(self._known, session, self.samples, self.chance)

    def _compared(self, found: JudgedFile, path: Path, session: Session) -> JudgedFile:
        random = bool(random_nodes(self.graph))
        score = self.judge.evaluate(path if random else session)
        drop, share = self.judge.drop(score), math.nan
        if not drop.broken and needs_variance(score, self.chance):
            share = self.explained_by(session)
        standing, reason = verdict(score, drop, self.chance, share, self.allowed)
        metric, unit = self.judge.metric_name, self.judge.unit
        return replace(found, standing=standing, reason=reason, score=score, drop=drop, metric=metric, unit=unit)


def judged_by(
    compare: Callable[[JudgedFile, Path, Session], JudgedFile],
    found: JudgedFile,
    path: Path,
    runtime: Runtime,
    *,
    kind: type[Session] = Half,
) -> JudgedFile:
    """Load a file and return the verdict of a comparison; a fault of the file is a verdict, not an error.

    Args:
        compare: runs the session of the file.
        found: the file before it is loaded.
        path: the path of the file, which may be a temporary one.
        runtime: configuration of ONNX Runtime.
        kind: of the session.
    """
    try:
        session = open_file(path, runtime, kind)
    except (ModelError, FileError) as error:
        return replace(found, reason=f"does not load: {_why(error)}")
    found = replace(found, loads=True)
    try:
        return compare(found, path, session)
    except NativeError as error:
        return replace(found, reason=f"does not run: {_why(error)}")
    except ModelError as error:
        return replace(found, reason=f"{error.what}: {error.why}")
    except DataError as error:
        if error.code != "ONX209":
            raise
        return replace(found, reason=f"its outputs cannot be compared: {_why(error)}")


def judged_words(choice: str, metric: str, samples: Samples, *, made_up: bool) -> str:
    """Return a sentence on the comparison of files with the baseline, and on its inputs.

    Args:
        choice: the rule by which outputs are compared, and its reason.
        metric: the name of the figure.
        samples: inputs.
        made_up: whether they are generated.
    """
    inputs = f"{len(samples)} made-up inputs; on real data fidelity may differ"
    if not made_up:
        inputs = f"{units.many(len(samples), 'sample')} of {Path(samples.name).name or samples.name}"
    return f"{choice} Fidelity is {metric}, on {inputs}."


def reference(baseline: Path | ir.Model, terms: Terms) -> Reference:
    """Open the float32 file and run it on the samples.

    Raises:
        ModelError: ONX304 it cannot be loaded, or as `load` and `FidelityJudge`.
        NativeError: ONX401 it does not run on the samples.
        UsageError: ONX114 it runs on no made-up input.
        DataError: ONX201 to ONX209 the samples do not fit.
    """
    budget = budget_of(terms.max_drop, None)
    graph = model_file.as_graph(baseline)
    runtime = terms.runtime or Runtime()
    if runtime == Runtime() and not model_file.fits_protobuf(graph):
        runtime = MAPPED
    if terms.data is None:
        samples = made_up_samples(graph, runtime, terms.limit)
    else:
        samples = open_samples(terms.data, signature_of(graph), options=terms.read, limit=terms.limit)
    judge = FidelityJudge(graph, samples, runtime, terms.tasks or TaskOptions(), seed=terms.seed)
    judge.baseline()
    chance = chance_of(KnownOutputs(lambda: Session(graph, runtime)), judge.comparison, samples)
    allowed = budget.allowed(1.0)
    size = model_file.size_of(baseline)
    return Reference(graph, size, samples, terms.data is None, runtime, judge, chance, allowed)


def size_of_file(path: Path) -> int:
    """Return the size in bytes of a file with its external data, which may be damaged."""
    try:
        return model_file.size_of(path)
    except Exception:  # protobuf's errors on a damaged file, and missing data; loading says what is wrong
        return path.stat().st_size if path.is_file() else 0


def _why(error: OnnxoptError) -> str:
    return " ".join((error.why or error.what).split())
