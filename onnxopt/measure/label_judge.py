"""The judge of candidates with labels: accuracy."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxopt.measure.accuracy import Evaluation, Progress, Stop, evaluate
from onnxopt.measure.guessing import hardly_better
from onnxopt.measure.judge import Judge
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Session
from onnxopt.measure.usable import without_nan
from onnxopt.samples import Samples


@dataclass(frozen=True, eq=False)
class LabelJudge(Judge):
    """Judges candidates by a metric against labels.

    Where the baseline's outputs are not kept, baseline and candidate take three runs instead of two.

    Attributes:
        metric: the metric to measure; the samples have labels.
    """

    metric: Metric
    kind = "accuracy"
    slow = 1.5

    @property
    def metric_name(self) -> str:
        """The metric's name."""
        return self.metric.name

    @property
    def unit(self) -> str:
        """The metric's unit."""
        return self.metric.unit

    @property
    def rule(self) -> str:
        """The metric, in one sentence."""
        return f"Judged by {self.metric.name} against the labels."

    @cached_property
    def _usable(self) -> tuple[Samples, tuple[int, ...]]:
        judged = None if self.metric.output is None else (self.metric.output,)
        return without_nan(self._known, self.samples, judged)

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
        return replace(found, warning=hardly_better(found, self._usable[0].labels))

    def _evaluated(
        self, model: Loadable | Session | KnownOutputs, progress: Progress | None, stop: Stop | None
    ) -> Evaluation:
        if self.samples.labels is None:
            return evaluate(model, self.samples, self.metric, self.runtime)  # its error says that labels are needed
        samples, left_out = self._usable
        model = model if isinstance(model, Session | KnownOutputs) else self._open(model, self.runtime)
        found = evaluate(model, samples, self._prepared, self.runtime, seed=self.seed, progress=progress, stop=stop)
        return replace(found, left_out=left_out, choice=self.choice)
