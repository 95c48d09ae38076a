"""Loss of a quantized form against the float model, on one scale for all tasks."""

from functools import cached_property
from math import inf, isfinite

import onnx_ir as ir

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.fidelity import Fidelity, fidelity
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.tasks.task import Recognized, TaskOptions
from onnxopt.measure.tasks.worst import Worst
from onnxopt.samples import Samples

ALLOWED = 0.015
"""Largest loss that counts as close, in nats of class probabilities: on most networks, forms that lose less than half a
point of accuracy are below it, forms that lose two or more points above. Losses of other tasks are scaled to match.
"""
_NUMBERS = ("regression", "signal", "embedding")
_ALLOWED_SHARE = 0.03
"""Drop of a task with countable answers, such as boxes or texts, that corresponds to `ALLOWED`."""


class TaskLoss:
    """Computes the loss of forms of one model by the tasks of its outputs.

    Args:
        model: the float model.
        samples: samples for judging.
        runtime: configuration of ONNX Runtime.
        options: options of reading outputs.
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

    @property
    def counts(self) -> bool:
        """Whether an output has answers that are right or wrong, such as boxes or texts, of which few say little."""
        return any(found.task not in (*_NUMBERS, "classification") for found in self._found)

    def of(self, model: ir.Model) -> tuple[float, float]:
        """Return the loss of a form, and the signal-to-noise ratio of its worst output in dB; raises errors of runs.

        The loss is infinite for a form that gives NaN where the float model does not.
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
            return float(lost**2)  # the power of an error relative to the spread
        return ALLOWED * lost / _ALLOWED_SHARE if isfinite(lost) else inf
