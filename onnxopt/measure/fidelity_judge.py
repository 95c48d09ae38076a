"""The judge of candidates without labels: agreement with the baseline (fidelity)."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxopt.measure.accuracy import Evaluation, Progress, Stop, evaluation_of
from onnxopt.measure.comparison import Comparison
from onnxopt.measure.fidelity import run_both, sample_count
from onnxopt.measure.judge import Judge
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.outputs import Outputs, broken_rows
from onnxopt.measure.repeatable import graph_of
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Session
from onnxopt.measure.tasks.facts import facts_of
from onnxopt.measure.tasks.recognition import TABLES, USER, by_number, choice_of, comparison_of, recognize
from onnxopt.measure.tasks.task import Recognized, TaskOptions
from onnxopt.measure.usable import without_nan
from onnxopt.samples import Batch, Samples


@dataclass(frozen=True, eq=False)
class FidelityJudge(Judge):
    """Judges by agreement with the baseline's outputs; labels are used only to recognize tables of class scores.

    Where the baseline's outputs are not kept, baseline and candidate take four runs instead of two.

    Attributes:
        options: options of reading outputs.
    """

    options: TaskOptions = field(default_factory=TaskOptions)
    kind = "fidelity"
    slow = 2.0

    @cached_property
    def _first(self) -> tuple[Batch, Outputs]:
        return interruptible(lambda: next(run_batches(self._known, self.samples)))

    @cached_property
    def recognized(self) -> tuple[Recognized, ...]:
        """The tasks of the outputs, decided on the baseline's outputs for the first samples.

        Raises:
            DataError: ONX209 the outputs cannot be compared by this task.
        """
        batch, outputs = self._first
        facts = facts_of(graph_of(self.model))
        found = recognize(outputs, batch.feeds, facts, self.options, self.samples.labels)
        return tuple(one if self._is_defined(one) else by_number(one, outputs, facts) for one in found)

    def _is_defined(self, found: Recognized) -> bool:
        """Return whether the comparison of a task found by evidence is defined on the samples, which may lack boxes."""
        if found.reason == USER or found.task in TABLES:
            return True

        def work() -> bool:
            rows = []
            for batch, outputs in run_batches(self._known, self.samples):
                rows.append(found.comparison.compare(outputs, outputs, sample_count(batch), batch.feeds))
                # More samples keep it defined. Each try joins all rows, so it is tried at powers of two.
                if len(rows) & (len(rows) - 1) == 0 and self._has_value(found, rows):
                    return True
            return self._has_value(found, rows)

        return interruptible(work)

    @staticmethod
    def _has_value(found: Recognized, rows: list[np.ndarray]) -> bool:
        return not np.isnan(found.comparison.value(np.concatenate(rows)))

    @cached_property
    def comparison(self) -> Comparison:
        """The comparison of outputs; raises like `recognized`."""
        return comparison_of(self.recognized)

    @property
    def rule(self) -> str:
        """The tasks and the reason for them, in one sentence."""
        return choice_of(self.recognized)

    @cached_property
    def _judged(self) -> tuple[str, ...]:
        return tuple(name for one in self.recognized for name in one.outputs)

    @cached_property
    def _usable(self) -> tuple[Samples, tuple[int, ...]]:
        """Samples for which the baseline gives numbers, and the positions of the others in the data.

        A model whose outputs lack the batch axis is run one sample at a time, so that its outputs belong to one sample.
        """
        batch, outputs = self._first
        size = sample_count(batch)
        samples = self.samples
        if any(_is_tensor(outputs[n]) and len(np.atleast_1d(outputs[n])) != size for n in self._judged):
            samples = samples.with_batch_size(1)
        return without_nan(self._known, samples, self._judged)

    @property
    def metric_name(self) -> str:
        """The comparison's name."""
        return self.comparison.name

    @property
    def unit(self) -> str:
        """The comparison's unit."""
        return self.comparison.unit

    def _evaluated(
        self, model: Loadable | Session | KnownOutputs, progress: Progress | None, stop: Stop | None
    ) -> Evaluation:
        comparison = self.comparison
        samples, left_out = self._usable

        def work() -> Evaluation:
            session = model if isinstance(model, Session | KnownOutputs) else self._open(model, self.runtime)
            rows, non_finite, done = [], 0, 0
            for batch, before, after in run_both(self._known, session, samples):
                size = sample_count(batch)
                rows.append(comparison.compare(before, after, size, batch.feeds))
                non_finite += int(broken_rows(before, after, size, self._judged).sum())
                done += size
                if progress is not None:
                    progress(done, len(samples))
                if stop is not None and stop(rows, done):
                    break
            found = evaluation_of(comparison, np.concatenate(rows), non_finite, seed=self.seed)
            return replace(found, left_out=left_out, choice=self.choice)

        return interruptible(work)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray)
