"""One way to ask what a candidate lost, with labels (accuracy) or without (fidelity)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from onnxopt.measure.accuracy import Evaluation, Progress, drop, evaluate, evaluation_of, run_batches
from onnxopt.measure.comparison import Comparison, comparison_of
from onnxopt.measure.fidelity import run_both, sample_count
from onnxopt.measure.interrupt import interruptible
from onnxopt.measure.outputs import non_finite_rows
from onnxopt.measure.score import Metric
from onnxopt.measure.session import Loadable, Runtime, Session
from onnxopt.measure.statistics import Drop
from onnxopt.measure.tasks import detection
from onnxopt.measure.tasks.task import ModelFacts, TaskOptions
from onnxopt.samples import Samples


class Judge(Protocol):
    """Measures candidates on the same samples as the baseline, in points of one metric."""

    @property
    def kind(self) -> Literal["accuracy", "fidelity"]:
        """Whether candidates are held against labels or against the baseline's outputs."""

    @property
    def metric_name(self) -> str:
        """What is measured."""

    @property
    def unit(self) -> str:
        """Of the metric."""

    def baseline(self) -> Evaluation:
        """Return the baseline's evaluation; measured once."""

    def evaluate(self, model: Loadable | Session, *, progress: Progress | None = None) -> Evaluation:
        """Measure a candidate."""

    def drop(self, candidate: Evaluation) -> Drop:
        """Compare a candidate with the baseline, sample by sample."""


@dataclass(frozen=True, eq=False)
class LabelJudge:
    """Judges by a metric against labels.

    Attributes:
        model: the baseline.
        samples: labelled.
        metric: what to measure.
        runtime: how to run.
        seed: of the resampling.
    """

    model: Loadable
    samples: Samples
    metric: Metric
    runtime: Runtime
    seed: int = 0

    @property
    def kind(self) -> Literal["accuracy", "fidelity"]:
        """Always `accuracy`."""
        return "accuracy"

    @property
    def metric_name(self) -> str:
        """The metric's name."""
        return self.metric.name

    @property
    def unit(self) -> str:
        """The metric's unit."""
        return self.metric.unit

    @cached_property
    def _prepared(self) -> Metric:
        """The metric, fitted to the baseline's outputs: a candidate's may no longer show how they are read."""
        if self.samples.labels is None:
            return self.metric
        session = Session(self.model, self.runtime)
        batch, outputs = interruptible(lambda: next(run_batches(session, self.samples.take(1))))
        return self.metric.prepared(outputs, np.asarray(batch.labels))

    @cached_property
    def _baseline(self) -> Evaluation:
        return self.evaluate(self.model)

    def baseline(self) -> Evaluation:
        """Return the baseline's evaluation; raises like `onnxopt.measure.accuracy.evaluate`."""
        return self._baseline

    def evaluate(self, model: Loadable | Session, *, progress: Progress | None = None) -> Evaluation:
        """Measure a candidate; raises like `onnxopt.measure.accuracy.evaluate`."""
        return evaluate(model, self.samples, self._prepared, self.runtime, seed=self.seed, progress=progress)

    def drop(self, candidate: Evaluation) -> Drop:
        """Compare a candidate with the baseline, sample by sample."""
        return drop(self.baseline(), candidate, seed=self.seed)


@dataclass(frozen=True, eq=False)
class FidelityJudge:
    """Judges by agreement with the baseline's outputs, which are computed again beside each candidate's.

    The drop is the share of samples given another class, or the RMS difference relative to the output's spread.

    Attributes:
        model: the baseline.
        samples: labels are not used.
        runtime: how to run.
        output: the output to compare; None chooses.
        task: `auto`, `classification` or `regression`, see `onnxopt.measure.comparison.comparison_of`.
        seed: of the resampling.
    """

    model: Loadable
    samples: Samples
    runtime: Runtime
    output: str | None = None
    task: str = "auto"
    seed: int = 0

    @property
    def kind(self) -> Literal["accuracy", "fidelity"]:
        """Always `fidelity`."""
        return "fidelity"

    @cached_property
    def _session(self) -> Session:
        return Session(self.model, self.runtime)

    @cached_property
    def comparison(self) -> Comparison:
        """How outputs are compared, decided on the baseline's outputs for the first sample.

        Raises:
            DataError: ONX209 the outputs cannot be compared in the way asked for.
        """
        feeds = next(iter(self.samples.take(1)))
        outputs = interruptible(lambda: self._session.named(feeds))
        if self.task == "auto" and self.output is None:
            facts = ModelFacts(metadata=self._session.metadata)
            found = detection.recognize(outputs, feeds, facts, TaskOptions())
            if found is not None:
                return found.comparison
        return comparison_of(outputs, feeds, output=self.output, task=self.task)

    @property
    def metric_name(self) -> str:
        """The comparison's name."""
        return self.comparison.name

    @property
    def unit(self) -> str:
        """The comparison's unit."""
        return self.comparison.unit

    @cached_property
    def _baseline(self) -> Evaluation:
        return self.evaluate(self._session)

    def baseline(self) -> Evaluation:
        """Return the baseline compared with itself: full agreement."""
        return self._baseline

    def evaluate(self, model: Loadable | Session, *, progress: Progress | None = None) -> Evaluation:
        """Measure a candidate, one batch in memory at a time; Ctrl-C stops it.

        Raises:
            DataError: ONX209 the outputs cannot be compared in the way asked for.
            ModelError: ONX304 the model cannot be loaded, ONX308 its outputs are called otherwise.
            NativeError: ONX401 it cannot be run.
        """
        comparison = self.comparison

        def work() -> Evaluation:
            session = model if isinstance(model, Session) else Session(model, self.runtime)
            rows, non_finite, done = [], 0, 0
            for batch, before, after in run_both(self._session, session, self.samples):
                size = sample_count(batch)
                rows.append(comparison.compare(before, after, size, batch.feeds))
                non_finite += non_finite_rows(after, size, comparison.output)
                done += size
                if progress is not None:
                    progress(done, len(self.samples))
            return evaluation_of(comparison, np.concatenate(rows), non_finite, seed=self.seed)

        return interruptible(work)

    def drop(self, candidate: Evaluation) -> Drop:
        """Compare a candidate with the baseline, sample by sample."""
        return drop(self.baseline(), candidate, seed=self.seed)
