"""The judge of candidates with labels: accuracy."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from onnxopt.measure.accuracy import Evaluation, Progress, Stop, drop, evaluate, first
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.repeatable import seed_sentence, session_kind
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.measure.statistics import Drop
from onnxopt.measure.usable import without_nan
from onnxopt.samples import Samples


@dataclass(frozen=True, eq=False)
class LabelJudge:
    """Judges candidates by a metric against labels.

    Attributes:
        model: the baseline.
        samples: samples with labels.
        metric: the metric to measure.
        runtime: configuration of ONNX Runtime.
        seed: seed of the resampling.
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

    @property
    def choice(self) -> str:
        """The rule by which results are judged, in one sentence, and the seed of random operators if there is one."""
        return f"Judged by {self.metric.name} against the labels.{seed_sentence(self._open)}"

    @cached_property
    def _usable(self) -> tuple[Samples, tuple[int, ...]]:
        judged = None if self.metric.output is None else (self.metric.output,)
        return without_nan(self._known, self.samples, judged)

    @cached_property
    def _open(self) -> type[Session]:
        return session_kind(self.model, self.samples, self.runtime)

    @cached_property
    def _known(self) -> KnownOutputs:
        return KnownOutputs(lambda: self._open(self.model, self.runtime))

    @cached_property
    def _prepared(self) -> Metric:
        """The metric, adapted to the baseline's outputs: a candidate's may lack the evidence of their layout."""
        if self.samples.labels is None:
            return self.metric
        session = self._open(self.model, self.runtime)
        batch, outputs = interruptible(lambda: next(run_batches(session, self.samples.take(1))))
        return self.metric.prepared(outputs, np.asarray(batch.labels), session.metadata)

    @cached_property
    def _baseline(self) -> Evaluation:
        found = self._evaluated(self._known, None, None)
        self._known.close()  # candidates are held against the labels
        return found

    def baseline(self) -> Evaluation:
        """Return the baseline's evaluation; raises like `onnxopt.measure.accuracy.evaluate`."""
        return self._baseline

    def slowdown(self, share: float) -> float:
        """Return 1.5 where so many outputs are not kept: baseline and candidate take three runs instead of two."""
        return 1.5 if self._known.outgrown_by(share) else 1.0

    def evaluate(
        self, model: Loadable | Session, *, progress: Progress | None = None, stop: Stop | None = None
    ) -> Evaluation:
        """Measure a candidate; raises like `onnxopt.measure.accuracy.evaluate`, and ONX207 like `without_nan`."""
        return self._evaluated(model, progress, stop)

    def _evaluated(
        self, model: Loadable | Session | KnownOutputs, progress: Progress | None, stop: Stop | None
    ) -> Evaluation:
        if self.samples.labels is None:
            return evaluate(model, self.samples, self.metric, self.runtime)  # its error says that labels are needed
        samples, left_out = self._usable
        model = model if isinstance(model, Session | KnownOutputs) else self._open(model, self.runtime)
        found = evaluate(model, samples, self._prepared, self.runtime, seed=self.seed, progress=progress, stop=stop)
        return replace(found, left_out=left_out, choice=self.choice)

    def drop(self, candidate: Evaluation) -> Drop:
        """Compare a candidate with the baseline, sample by sample, on those that both were scored on."""
        return drop(first(self.baseline(), len(candidate.rows)), candidate, seed=self.seed)
