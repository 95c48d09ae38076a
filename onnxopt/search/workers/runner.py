"""Runners of a search's work: in this process, in separate processes, or on a cluster."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import inf
from typing import Any, Protocol, TypeVar

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import NativeError, OnnxoptError, UsageError, first_line
from onnxopt.measure.accuracy import Evaluation, Stop
from onnxopt.measure.judge import FidelityJudge, Judge, LabelJudge
from onnxopt.measure.latency import Latency, measure_latency
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.pipeline import Context, Optimized, Pass, Pipeline, Step
from onnxopt.samples import Feeds, Samples
from onnxopt.search.losses import Base, MeasuredLosses
from onnxopt.search.trial import Candidate, why_unchanged
from onnxopt.search.workers.preparation import Preparation
from onnxopt.target import target_of

T = TypeVar("T")
SENSITIVITY = "sensitivity of layers"
_LOOK_S = 0.5
"""Seconds between two looks whether a task still matters."""
LOST = "ONX407"
"""Code of the error after which no further trial can run."""


@dataclass(frozen=True)
class Work:
    """What every task of a search needs.

    Attributes:
        calibration: samples to observe a model on.
        search: samples to score it on.
        metric: None for fidelity.
        target: name of a processor, see `onnxopt.target`.
        inputs: batches to time models on, by turns.
        hot: the one batch of a hot loop.
    """

    calibration: Samples
    search: Samples
    metric: Metric | None
    target: str
    runtime: Runtime
    seed: int
    inputs: tuple[Feeds, ...]
    hot: Feeds
    tasks: TaskOptions = field(default_factory=TaskOptions)


class Runner(Protocol):
    """Builds candidates, scores them on the search part and times them."""

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Say what will be asked for soon, so that it may begin."""

    def build(self, candidate: Candidate) -> Optimized:
        """Return what the candidate's passes make; raises what they raise."""

    def score(self, candidate: Candidate, model: ir.Model) -> Evaluation:
        """Return how good a model is that was built; raises what running it raises."""

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Return how fast models are, beside each other; `hot`: on one batch again and again."""

    def losses(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return what each pass does to the outputs, see `onnxopt.search.losses.Losses`."""


class LocalRunner:
    """Does everything in this process.

    Args:
        model: the original.
        context: of the passes.
        judge: on the search part.
        work: how to time.
        preparation: of the same model, to share what it made; None for one of its own.
        race: makes what may give a candidate up while it is scored.
    """

    def __init__(
        self,
        model: ir.Model,
        context: Context,
        judge: Judge,
        work: Work,
        preparation: Preparation | None = None,
        race: Callable[[], Stop | None] = lambda: None,
    ) -> None:
        self._judge, self._work, self._race = judge, work, race
        self._preparation = preparation or Preparation(model, context)
        self.losses = MeasuredLosses(model, context, partial(context.progress, SENSITIVITY))

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Begin nothing: there is one process."""

    def build(self, candidate: Candidate) -> Optimized:
        """Run the passes."""
        return self._preparation.run(candidate.passes)

    def score(self, candidate: Candidate, model: ir.Model) -> Evaluation:
        """Ask the judge."""
        return self._judge.evaluate(model, stop=self._race())

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Measure."""
        return _timed(models, self._work, seconds, hot)


class RemoteRunner:
    """Builds and scores by an executor, such as processes of their own; times here, where nothing else runs.

    Args:
        model: the original; must fit a protobuf.
        work: of which all must survive pickling.
        executor: of what may run anywhere.
        bench: of what times models, on the machines whose latency counts; None to time here.
        share: makes of bytes what tasks take in their place; None for the bytes themselves.
        check: called now and then while tasks run; what it raises gives them up.

    Raises:
        UsageError: ONX116 the model is too large, or the samples cannot be sent to another process.
    """

    def __init__(
        self,
        model: ir.Model,
        work: Work,
        executor: Executor,
        bench: Executor | None = None,
        share: Any = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        if not model_file.fits_protobuf(model):
            raise UsageError("ONX116", "a model this large is only tried in this process", where="over 1.5 GB")
        share = share or (lambda data: data)
        self._original, self._work, self._executor, self._bench, self._share = model, work, executor, bench, share
        self._check = check
        self._model, self._needed = share(model_file.to_bytes(model)), share(_pickled(work))
        self._pending = dict[Candidate, Future[tuple[bytes | None, tuple[Step, ...], Evaluation | None]]]()
        self._scores = dict[Candidate, Evaluation | None]()
        context = Context(target_of(work.target), work.calibration, seed=work.seed)
        self._measured = MeasuredLosses(model, context, lambda done, total: check())

    def losses(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Send all off at once, to a cluster; a process of its own for each would take longer than it works."""
        if self._bench is None:
            return self._measured(base, specs)
        tasks = [self._executor.submit(loss_of, self._model, self._needed, base, spec) for spec in specs]
        try:
            return [_loss_of(task, self._check) for task in tasks]
        finally:
            for task in tasks:
                task.cancel()  # of effect only where one was not waited for

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Send them off."""
        for candidate in candidates:
            if candidate not in self._pending:
                self._pending[candidate] = self._executor.submit(
                    build_and_score, self._model, self._needed, candidate.passes
                )

    def build(self, candidate: Candidate) -> Optimized:
        """Wait for the task; raises NativeError ONX406 when its process died or broke a limit."""
        self.announce([candidate])
        made, steps, score = _result_of(self._pending.pop(candidate), self._check)
        self._scores[candidate] = score
        return Optimized(self._original if made is None else model_file.from_bytes(made), steps)

    def score(self, candidate: Candidate, model: ir.Model) -> Evaluation:
        """Return what the task found."""
        score = self._scores.pop(candidate)
        assert score is not None
        return score

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Measure here, or on a machine whose latency counts."""
        if self._bench is None:
            return _timed(models, self._work, seconds, hot)
        sent = [self._share(model_file.to_bytes(model)) for model in models.values()]
        return _result_of(self._bench.submit(time_models, list(models), self._needed, seconds, hot, *sent), self._check)


def build_and_score(
    model: bytes, needed: bytes, passes: tuple[Pass, ...]
) -> tuple[bytes | None, tuple[Step, ...], Evaluation | None]:
    """Return the model that passes make, what they did, and its score; no model where they did nothing."""
    original, context, judge = _opened(model, needed)
    built = Pipeline(passes).run(original, context)
    if why_unchanged(built.steps) is not None:
        return None, built.steps, None
    return model_file.to_bytes(built.model), built.steps, judge.evaluate(built.model)


def loss_of(model: bytes, needed: bytes, base: Base, spec: Pass) -> float:
    """Return what a pass does to the outputs of what `base` makes."""
    return _measured(model, needed)(base, [spec])[0]


@lru_cache(maxsize=1)
def _measured(model: bytes, needed: bytes) -> MeasuredLosses:
    original, context, _ = _opened(model, needed)
    return MeasuredLosses(original, context)


@lru_cache(maxsize=1)
def _opened(model: bytes, needed: bytes) -> tuple[ir.Model, Context, Judge]:
    """Return what all tasks of one search share; a worker keeps it, with the calibration and the original's outputs."""
    work: Work = pickle.loads(needed)
    original = model_file.from_bytes(model)
    context = Context(target_of(work.target), work.calibration, seed=work.seed)
    return original, context, judge_of(original, work.search, work.metric, work.runtime, work.seed, work.tasks)


def time_models(names: Sequence[str], needed: bytes, seconds: float, hot: bool, *models: bytes) -> dict[str, Latency]:
    """Return how fast models are, beside each other."""
    work: Work = pickle.loads(needed)
    loaded = {name: model_file.from_bytes(model) for name, model in zip(names, models, strict=True)}
    return _timed(loaded, work, seconds, hot)


def _timed(models: Mapping[str, ir.Model], work: Work, seconds: float, hot: bool) -> dict[str, Latency]:
    inputs = (work.hot,) if hot else work.inputs
    return measure_latency(models, inputs, work.runtime, seconds=seconds, seed=work.seed)


def judge_of(
    model: ir.Model,
    samples: Samples,
    metric: Metric | None,
    runtime: Runtime,
    seed: int,
    tasks: TaskOptions | None = None,
) -> Judge:
    """Return who judges candidates for `model` on `samples`; without a metric by agreement."""
    if metric is None:
        return FidelityJudge(model, samples, runtime, tasks or TaskOptions(), seed=seed)
    return LabelJudge(model, samples, metric, runtime, seed=seed)


def _result_of(task: Future[T], check: Callable[[], None]) -> T:
    try:
        while not wait([task], timeout=_LOOK_S).done:
            check()
    except BaseException:
        task.cancel()
        raise
    try:
        return task.result()
    except OnnxoptError:
        raise
    except CancelledError as error:
        hint = "When it is back, go on with --resume."
        raise NativeError(LOST, "the connection to the cluster was lost", hint=hint) from error
    except Exception as error:  # of the cluster: the task's worker died again and again
        raise NativeError(
            "ONX406", "a trial failed on the cluster", why=f"{type(error).__name__}: {first_line(error)}"
        ) from error


def _loss_of(task: Future[float], check: Callable[[], None]) -> float:
    try:
        return _result_of(task, check)
    except NativeError as error:
        if error.code == LOST:
            raise
        return inf


def _pickled(work: Work) -> bytes:
    try:
        return pickle.dumps(work)
    except Exception as error:  # whatever a user's iterable or metric raises
        raise UsageError(
            "ONX116",
            "these samples or this metric cannot be sent to another process",
            why=f"{type(error).__name__}: {first_line(error)}",
            hint="Give the samples as files, or leave out --trial-timeout, --memory-limit and --cluster.",
        ) from error
