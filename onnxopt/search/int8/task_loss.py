"""Loss of a quantized form against the float model, on one scale for all tasks."""

from functools import cached_property
from math import inf, isfinite

import onnx_ir as ir

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.fidelity import Fidelity, fidelity
from onnxopt.measure.judge import FidelityJudge
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.tasks.task import Recognized, TaskOptions
from onnxopt.measure.tasks.worst import Worst
from onnxopt.samples import Samples

ALLOWED = 0.015
"""Largest loss that counts as close: in nats of class probabilities; what loses less than half a point of accuracy is
below it on most networks, what loses two or more above. The loss of other tasks is scaled to mean the same."""
_NUMBERS = ("regression", "signal", "embedding")
_ALLOWED_SHARE = 0.03
"""Drop of a task that is counted in answers, such as boxes or texts, that is as close as `ALLOWED`."""


class TaskLoss:
    """Judges forms of one model by the tasks of its outputs.

    Args:
        model: the original.
        samples: to judge on.
        runtime: configuration of ONNX Runtime.
        options: how outputs are read.
    """

    def __init__(self, model: ir.Model, samples: Samples, runtime: Runtime, options: TaskOptions | None = None) -> None:
        self._judge = FidelityJudge(model, samples, runtime, options or TaskOptions())
        self._samples, self._runtime = samples, runtime
        self._baseline = Session(model, runtime)

    @property
    def choice(self) -> str:
        """The tasks and the reason for them, in one sentence."""
        return self._judge.choice

    @cached_property
    def _found(self) -> tuple[Recognized, ...]:
        return self._judge.recognized

    def of(self, model: ir.Model) -> tuple[float, float]:
        """Return the loss of a form, and the signal-to-noise ratio of its worst output in decibels; raises as running.

        The loss is infinite for a form that gives NaN where the original does not.
        """
        near = fidelity(self._baseline, model, self._samples, self._runtime)
        decibels = min((output.sqnr_db for output in near.outputs), default=inf)
        scored = self._judge.evaluate(model)
        if self._judge.drop(scored).broken:
            return inf, decibels
        return max(self._part(number, one, scored, near) for number, one in enumerate(self._found)), decibels

    def _part(self, number: int, found: Recognized, scored: Evaluation, near: Fidelity) -> float:
        metric = scored.metric
        if isinstance(metric, Worst):
            rows = metric.part_rows(scored.rows, number)
            metric = metric.parts[number]
            lost = max(1 - metric.value(rows), metric.least_drop(rows))
        else:
            lost = 1 - scored.value
        if found.task == "classification":
            nats = [o.kl for o in near.outputs if o.name in found.outputs and o.kl is not None]
            least = metric.least_drop(rows if isinstance(scored.metric, Worst) else scored.rows)
            return max([*nats, least]) if nats else ALLOWED * lost / _ALLOWED_SHARE
        if found.task in _NUMBERS:
            return float(lost**2)  # an error over the spread, as power
        return ALLOWED * lost / _ALLOWED_SHARE if isfinite(lost) else inf
