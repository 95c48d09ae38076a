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
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.judge import Judge
from onnxopt.measure.label_judge import LabelJudge
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
"""Seconds between two checks whether a task was cancelled."""
LOST = "ONX407"
"""Code of the error after which no further trial can run."""


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of every task of a search.

    Attributes:
        calibration: calibration samples.
        search: search samples.
        metric: metric against labels; None for fidelity.
        target: name of a processor, see `onnxopt.target`.
        inputs: alternating batches for timing.
        hot: the repeated batch of a hot loop.
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
    """Builds candidates, scores them on the search samples and times them."""

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Announce candidates that follow soon, so that their work can start."""

    def build(self, candidate: Candidate) -> Optimized:
        """Return the result of the candidate's passes; raises their errors."""

    def score(self, candidate: Candidate, model: ir.Model) -> Evaluation:
        """Return the score of a built model; raises the errors of running it."""

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Return the latency of models in alternating runs; `hot`: with one repeated batch."""

    def losses(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Return the output loss of each pass, see `onnxopt.search.losses.Losses`."""


class LocalRunner:
    """Does everything in this process.

    Args:
        model: the baseline.
        context: context of the passes.
        judge: judge of the search samples.
        work: inputs for timing.
        preparation: shared preparation of the same model; None for a new one.
        race: returns the race that may stop the scoring of a candidate.
    """

    def __init__(
        self,
        model: ir.Model,
        context: Context,
        judge: Judge,
        work: TaskInputs,
        preparation: Preparation | None = None,
        *,
        race: Callable[[], Stop | None] = lambda: None,
    ) -> None:
        self._judge, self._work, self._race = judge, work, race
        self._preparation = preparation or Preparation(model, context)
        self.losses = MeasuredLosses(model, context, partial(context.progress, SENSITIVITY))

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Do nothing, because there is only one process."""

    def build(self, candidate: Candidate) -> Optimized:
        """Run the passes."""
        return self._preparation.run(candidate.passes)

    def score(self, candidate: Candidate, model: ir.Model) -> Evaluation:
        """Score the model with the judge."""
        return self._judge.evaluate(model, stop=self._race())

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Measure latency in this process."""
        return _timed(models, self._work, seconds, hot)


class RemoteRunner:
    """Builds and scores with an executor, such as separate processes; measures latency here while the others are idle.

    Args:
        model: the baseline; must fit a protobuf.
        work: inputs of all tasks; all must be picklable.
        executor: executor of tasks that may run anywhere.
        bench: executor of timing tasks, on machines of the target kind; None times here.
        share: converts bytes to arguments of tasks; None passes the bytes themselves.
        check, check_bench: called at intervals while tasks, or those that time, run; an exception cancels them.

    Raises:
        UsageError: ONX116 the model is too large, or the samples cannot be sent to another process.
    """

    def __init__(
        self,
        model: ir.Model,
        work: TaskInputs,
        executor: Executor,
        *,
        bench: Executor | None = None,
        share: Any = None,
        check: Callable[[], None] = lambda: None,
        check_bench: Callable[[], None] | None = None,
    ) -> None:
        if not model_file.fits_protobuf(model):
            raise UsageError("ONX116", "a model this large is only tried in this process", where="over 1.5 GB")
        share = share or (lambda data: data)
        self._original, self._work, self._executor, self._bench, self._share = model, work, executor, bench, share
        self._check, self._check_bench = check, check_bench or check
        self._model, self._needed = share(model_file.to_bytes(model)), share(_pickled(work))
        self._pending = dict[Candidate, Future[tuple[bytes | None, tuple[Step, ...], Evaluation | None]]]()
        self._scores = dict[Candidate, Evaluation | None]()
        context = Context(target_of(work.target), work.calibration, seed=work.seed)
        self._measured = MeasuredLosses(model, context, lambda done, total: check())

    def losses(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        """Submit all at once to a cluster; else measure here, because processes would start longer than they work."""
        if self._bench is None:
            return self._measured(base, specs)
        tasks = [self._executor.submit(pass_loss, self._model, self._needed, base, spec) for spec in specs]
        try:
            return [_loss_of(task, self._check) for task in tasks]
        finally:
            for task in tasks:
                task.cancel()  # has an effect only for tasks without a waiter

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Submit the candidates."""
        for candidate in candidates:
            if candidate not in self._pending:
                self._pending[candidate] = self._executor.submit(
                    build_and_score, self._model, self._needed, candidate.passes
                )

    def build(self, candidate: Candidate) -> Optimized:
        """Wait for the task; raises NativeError ONX406 if its process died or exceeded a limit."""
        self.announce([candidate])
        made, steps, score = _result_of(self._pending.pop(candidate), self._check)
        self._scores[candidate] = score
        return Optimized(
            self._original if made is None else model_file.keep_on_disk(model_file.from_bytes(made)), steps
        )

    def score(self, candidate: Candidate, model: ir.Model) -> Evaluation:
        """Return the score from the task."""
        score = self._scores.pop(candidate)
        assert score is not None
        return score

    def latency(self, models: Mapping[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Measure latency here, or on a machine of the target kind."""
        if self._bench is None:
            return _timed(models, self._work, seconds, hot)
        sent = [self._share(model_file.to_bytes(model)) for model in models.values()]
        task = self._bench.submit(time_models, list(models), self._needed, seconds, hot, *sent)
        return _result_of(task, self._check_bench)


def build_and_score(
    model: bytes, needed: bytes, passes: tuple[Pass, ...]
) -> tuple[bytes | None, tuple[Step, ...], Evaluation | None]:
    """Return the built model, the steps of the passes, and the score; no model if the passes changed nothing."""
    original, context, judge = _opened(model, needed)
    built = Pipeline(passes).run(original, context)
    if why_unchanged(built.steps) is not None:
        return None, built.steps, None
    return model_file.to_bytes(built.model), built.steps, judge.evaluate(built.model)


def pass_loss(model: bytes, needed: bytes, base: Base, spec: Pass) -> float:
    """Return the output loss of a pass on the model built by `base`."""
    return _measured(model, needed)(base, [spec])[0]


@lru_cache(maxsize=1)
def _measured(model: bytes, needed: bytes) -> MeasuredLosses:
    original, context, _ = _opened(model, needed)
    return MeasuredLosses(original, context)


@lru_cache(maxsize=1)
def _opened(model: bytes, needed: bytes) -> tuple[ir.Model, Context, Judge]:
    """Return the shared inputs of all tasks of a search; a worker keeps them, with calibration and baseline outputs."""
    work: TaskInputs = pickle.loads(needed)
    original = model_file.from_bytes(model)
    context = Context(target_of(work.target), work.calibration, seed=work.seed)
    judge = judge_of(original, work.search, work.metric, work.runtime, work.seed, tasks=work.tasks)
    return original, context, judge


def time_models(names: Sequence[str], needed: bytes, seconds: float, hot: bool, *models: bytes) -> dict[str, Latency]:
    """Return the latency of models in alternating runs."""
    work: TaskInputs = pickle.loads(needed)
    loaded = {name: model_file.from_bytes(model) for name, model in zip(names, models, strict=True)}
    return _timed(loaded, work, seconds, hot)


def _timed(models: Mapping[str, ir.Model], work: TaskInputs, seconds: float, hot: bool) -> dict[str, Latency]:
    inputs = (work.hot,) if hot else work.inputs
    # The search itself times unsure candidates again, within its time limit.
    return measure_latency(models, inputs, work.runtime, seconds=seconds, lengthen=False, seed=work.seed)


def judge_of(
    model: ir.Model,
    samples: Samples,
    metric: Metric | None,
    runtime: Runtime,
    seed: int,
    *,
    tasks: TaskOptions | None = None,
) -> Judge:
    """Return the judge of candidates for `model` on `samples`; without a metric it judges by agreement."""
    if metric is None:
        return FidelityJudge(model, samples, runtime, tasks or TaskOptions(), seed=seed)
    return LabelJudge(model, samples, runtime, metric, seed=seed)


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
    except Exception as error:  # an error of the cluster: the task's worker died repeatedly
        why = f"{type(error).__name__}: {first_line(error)}"
        raise NativeError("ONX406", "a trial failed on the cluster", why=why) from error


def _loss_of(task: Future[float], check: Callable[[], None]) -> float:
    try:
        return _result_of(task, check)
    except NativeError as error:
        if error.code == LOST:
            raise
        return inf


def _pickled(work: TaskInputs) -> bytes:
    try:
        return pickle.dumps(work)
    except Exception as error:  # any exception of a user's iterable or metric
        raise UsageError(
            "ONX116",
            "these samples or this metric cannot be sent to another process",
            why=f"{type(error).__name__}: {first_line(error)}",
            hint="Give the samples as files, or leave out --trial-timeout, --memory-limit and --cluster.",
        ) from error
