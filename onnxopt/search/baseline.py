"""The start of a search: all that is fixed before the first candidate, the measured baseline included."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.measure.judge import Judge
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.score import Metric
from onnxopt.pipeline import Context, Pass
from onnxopt.samples import Samples
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.limits.pressure import RUNS_OF_BASELINE, baseline_in_time, refuse_hopeless
from onnxopt.search.limits.reserve import Reserve, reserve_of
from onnxopt.search.observer import Observer
from onnxopt.search.parts import Parts
from onnxopt.search.race import Race, race_of
from onnxopt.search.settings import Settings
from onnxopt.search.timed_batches import timed_batches
from onnxopt.search.trial import Candidate, Trial, Verdict
from onnxopt.search.workers.choice import runner_for
from onnxopt.search.workers.device import DeviceTimer
from onnxopt.search.workers.preparation import Preparation
from onnxopt.search.workers.runner import LocalRunner, Runner, TaskInputs, judge_of
from onnxopt.target import target_of

Stamp = Callable[[ir.Model, tuple[Pass, ...]], ir.Model]

PROOF_LATENCY = 3
"""Factor on the usual measurement time for the latency of a finalist in its proof."""


@dataclass(frozen=True)
class Workers:
    """The places where the work of a search is done.

    Attributes:
        runner: builds and scores.
        device: the device that measures latency; None for the runner's machine.
    """

    runner: Runner
    device: DeviceTimer | None

    def latency(self, models: dict[str, ir.Model], seconds: float, *, hot: bool = False) -> dict[str, Latency]:
        """Return the latency of models in alternating runs, here or on the device; `hot`: on one repeated batch."""
        return (self.device or self.runner).latency(models, seconds, hot=hot)


class Start:
    """The model, the samples and the judges of a search; see `onnxopt.search.optimize.search` for the arguments.

    Attributes:
        judge: the judge of the search samples.
        batches: those that latency is measured on.
    """

    def __init__(
        self,
        model: ir.Model,
        parts: Parts,
        metric: Metric | None,
        settings: Settings,
        *,
        observer: Observer,
        stamp: Stamp | None,
        deadline: Deadline,
    ) -> None:
        self.model, self.parts, self.metric, self.settings = model, parts, metric, settings
        self.observer, self.deadline, self._stamp = observer, deadline, stamp or (lambda built, _: built)
        target = target_of(settings.target)
        self.context = Context(target, parts.calibration, seed=settings.seed, progress=self._progress)
        self.preparation = Preparation(model, self.context)
        self._judges = dict[tuple[bytes, int], Judge]()
        self.judge = self.judge_on(parts.search)
        self.batches = timed_batches(parts.search, model, settings)

    def _progress(self, what: str, done: int, total: int) -> None:
        self.deadline.check()
        self.observer.progress(what, done, total)

    def judge_on(self, samples: Samples) -> Judge:
        """Return the judge that compares models with the baseline on `samples`; one for the same samples."""
        key, asked = (samples.indices.tobytes(), samples.batch_size), self.settings
        if key not in self._judges:
            self._judges[key] = judge_of(self.model, samples, self.metric, asked.runtime, asked.seed, tasks=asked.tasks)
        return self._judges[key]

    def build(self, candidate: Candidate) -> ir.Model:
        """Return the final model of a candidate, built in this process."""
        return self.stamped(self.preparation.run(candidate.passes).model, candidate)

    def stamped(self, built: ir.Model, candidate: Candidate) -> ir.Model:
        """Return the final model of a candidate from the built one."""
        return self._stamp(built, candidate.passes)

    @contextmanager
    def at_work(self) -> Iterator[Workers]:
        """Provide the workers for the duration of the search."""
        parts, chosen, target = self.parts, self.settings, self.context.target.name
        timed = self.batches.alternating, self.batches.typical
        shared = self.metric, target, chosen.runtime, chosen.seed, *timed, chosen.tasks
        work = TaskInputs(parts.calibration, parts.search, *shared)

        def here() -> LocalRunner:
            return LocalRunner(self.model, self.context, self.judge, work, self.preparation, race=self._race)

        device = None if chosen.device is None else DeviceTimer(chosen.device, work)
        with runner_for(self.model, work, chosen, self.deadline, here) as runner:
            yield Workers(runner, device)

    def _race(self) -> Race | None:
        score = self.judge.baseline()
        return race_of(score, self.settings.budget.allowed(score.value))


@dataclass(frozen=True)
class Baseline:
    """The measured baseline and the limits that follow from it.

    Attributes:
        trial: score, latency and size of the baseline.
        bar: the limits of acceptance.
        sample_s: approximate seconds per sample.
        reserve: the time for the proof; None without a time limit.
    """

    trial: Trial
    bar: Acceptance
    sample_s: float
    reserve: Reserve | None


def measured_baseline(start: Start, workers: Workers, size_bytes: int) -> Baseline:
    """Measure the baseline, and have the deadline reserve the time for a proof; raises the errors of `search`."""
    settings, parts, judge, clock = start.settings, start.parts, start.judge, start.deadline
    start_s = clock.elapsed_s()
    with baseline_in_time(clock, settings.trial_timeout_s):
        if settings.time_limit_s is not None:
            refuse_hopeless(start.model, parts.search, settings.runtime, clock)
        score = judge.baseline()
        scored_s = clock.elapsed_s() - start_s
        timed = workers.latency({"baseline": start.model}, settings.latency_s)["baseline"]
    reserve = None
    if settings.time_limit_s is not None:
        reserve = reserve_of(
            scored_s=scored_s * judge.slowdown(len(parts.holdout) / len(parts.search)),
            searched=len(parts.search),
            holdout=len(parts.holdout),
            timed_s=clock.elapsed_s() - start_s - scored_s,
            latency_s=settings.latency_s,
            proof_latency_s=PROOF_LATENCY * settings.latency_s,
            hot=settings.hot,
            size_bytes=size_bytes,
            limit_s=settings.time_limit_s,
        )
        clock.reserve_s = reserve.at_first_s
    trial = Trial(
        Candidate("baseline", ()), Verdict.BASELINE, "the unchanged model", (), size_bytes, score, None, timed
    )
    allowed = settings.budget.allowed(score.value)
    bar = Acceptance(settings.goal, allowed, settings.confidence, size_bytes, judge.unit, settings.require)
    return Baseline(trial, bar, scored_s / (RUNS_OF_BASELINE * len(parts.search)), reserve)
