"""INT8 forms of one model, each judged by the loss of its outputs against the float model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, log10
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.graph.edit import name_nodes
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.options.choices import Effort
from onnxopt.passes.equalize import Equalize
from onnxopt.passes.fuse_attention import FuseAttention, attends
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.passes.smooth_quant import SmoothQuant
from onnxopt.pipeline import Context, Observations, Optimized, Pass, Pipeline
from onnxopt.quantization.diagnosis.layers import diagnose, worst
from onnxopt.quantization.placement.measured import unmeasurable
from onnxopt.samples import Samples
from onnxopt.search.int8 import task_loss
from onnxopt.search.int8.task_loss import TaskLoss
from onnxopt.search.parts import LEAST

ALLOWED = task_loss.ALLOWED
"""Largest loss of a form that counts as close."""
_METHODS = ("minmax", "percentile", "entropy", "symmetric-entropy", "mse")
_MORE_METHODS = ("jensen-shannon", "moving-average")
_MOST_SAMPLES, _JUDGED = 256, 4
_MOST_DB, _TRIES, _MARGIN_DB = 100, 2, 0.5
_CORRECTED = 2
"""Number of calibrations with bias correction, which takes longer than all other steps."""
_CORRECTABLE = 10
"""Largest ratio of a loss to the allowed one for a bias correction, which removes a part of the error, not most."""
_NEAR = 2
"""Largest ratio of a loss to the allowed one at which the corrected form is made again with fewer layers in INT8."""
_HELPED = 0.8
"""Share of the loss that a correction leaves at most where the next calibration is worth one too."""
_RANKED_BY = 8
"""Most samples by which layers are ranked: each is run once per layer. More change the order of a few layers only."""

_FUSE = FuseAttention(form="portable", verify=False)
"""Exact; forms are timed, so the pass does not time itself."""


@dataclass(frozen=True)
class Int8Form:
    """A tried form of quantization.

    Attributes:
        passes: the passes of the form.
        built: the result of the passes.
        loss: loss against the float model on held-out samples, see `onnxopt.search.int8.task_loss.ALLOWED`.
        min_sqnr_db: signal-to-noise ratio of the outputs that gives the largest allowed loss, if all errors grow
            alike.
        time_ms: shortest time of a run beside all others; None if it was not timed, because its loss is too large or a
            closer form has the same graph.
    """

    passes: tuple[Pass, ...]
    built: Optimized
    loss: float
    min_sqnr_db: float = 0.0
    time_ms: float | None = None


class Int8Forms:
    """Builds forms of one model, calibrates them on three of four samples, and judges them on the others.

    Where answers are counted, such as boxes, a form that is close there is judged on those that calibrate it too.

    Args:
        model: the input model (not modified).
        samples: samples without need of labels; at most 256 are used.
        context: target and seed.
        effort: the number of forms to try.
        tasks: tasks of the outputs and options of reading them.

    Attributes:
        judges: the samples for judging.
        judged: the loss of forms.
        tried: forms that quantize some layer and run.
    """

    def __init__(
        self,
        model: ir.Model,
        samples: Samples,
        context: Context,
        effort: Effort,
        tasks: TaskOptions | None = None,
    ) -> None:
        samples = samples.take(min(_MOST_SAMPLES, len(samples)))
        judged = np.arange(len(samples)) % _JUDGED == _JUDGED - 1
        few = len(samples) < LEAST
        self.judges = samples if few else samples.select(samples.indices[judged])
        ranges = samples if few else samples.select(samples.indices[~judged])
        self.context = replace(context, calibration=ranges, cache=Observations())
        self.model, self.effort, self.runtime = model, effort, Runtime()
        self.tried: list[Int8Form] = []
        self.judged = TaskLoss(model, self.judges, self.runtime, tasks)
        self._others = None if few else TaskLoss(model, ranges, self.runtime, tasks)
        self._planned = 2 * len(_METHODS) if effort == "normal" else 3 * len((*_METHODS, *_MORE_METHODS))

    def try_all(self) -> bool:
        """Try every form, those that take longest last; return True at the end."""
        calibrated = self._calibrations()
        fused = unmeasurable(self.context.target) is None and attends(self.model)
        for per_channel in (True, False):
            self._try(Simplify(fuse=False), QuantizeDynamic(per_channel=per_channel))
            if fused:
                self._try(Simplify(fuse=False), _FUSE, QuantizeDynamic(per_channel=per_channel))
        static = self._best_static(calibrated)
        if static is not None:
            self._per_tensor(static)
        if fused and static is not None:
            self._try(*_before(static, _FUSE))
        return True

    def plain(self) -> Int8Form:
        """Return the simplified float model."""
        form = self._form(Simplify(fuse=False))
        if form is not None and np.isfinite(form.loss):
            return form
        return Int8Form((), Pipeline(()).run(self.model, self.context), 0.0)

    def _bounded(self, form: Int8Form) -> bool:
        """Try a static `form` with the layers in INT8 that give the least time within the allowed loss.

        Returns:
            Whether one is within it.
        """
        if unmeasurable(self.context.target) is not None:
            return False
        min_sqnr_db = form.min_sqnr_db
        for _ in range(_TRIES):
            if not 0 < min_sqnr_db <= _MOST_DB:
                return False
            found = self._changed(form, placement="measured", min_sqnr_db=round(min_sqnr_db, 2))
            if found is None or found.loss <= ALLOWED:
                return found is not None
            # The errors of layers do not add up exactly.
            min_sqnr_db += 10 * log10(found.loss / ALLOWED) + _MARGIN_DB
        return False

    def _changed(self, form: Int8Form, **options: Any) -> Int8Form | None:
        """Try a static `form` with other options; its biases are corrected only where that may suffice."""
        spec = replace(cast(QuantizeStatic, form.passes[-1]), **options)
        plain = self._try(*form.passes[:-1], replace(spec, correct_bias=False))
        if not spec.correct_bias or plain is None or not ALLOWED < plain.loss <= _NEAR * ALLOWED:
            return plain
        corrected = self._try(*form.passes[:-1], spec)
        return plain if corrected is None else min(plain, corrected, key=loss_key)

    def placed(self, form: Int8Form) -> Int8Form | None:
        """Return a static `form` with only those layers in INT8 that were measured to be faster."""
        spec = form.passes[-1]
        if not isinstance(spec, QuantizeStatic):
            return None
        placed = self._form(*form.passes[:-1], replace(spec, placement="measured"))
        return placed if placed is not None and placed.loss <= ALLOWED else None

    def _calibrations(self) -> list[Int8Form]:
        """Try every calibration, and return those that run."""
        methods = (*_METHODS, *_MORE_METHODS) if self.effort == "high" else _METHODS
        found = (self._try(Simplify(), QuantizeStatic(method=cast(Any, m))) for m in methods)
        return [form for form in found if form is not None]

    def _best_static(self, calibrated: Sequence[Int8Form]) -> Int8Form | None:
        """Return the closest form; if all lose too much, correct biases, then keep layers in float."""
        found = list[Int8Form | None](calibrated)
        closest = sorted(calibrated, key=loss_key)[:_CORRECTED]
        if closest and (self.effort == "high" or closest[0].loss > ALLOWED):
            found += self._corrections(closest)
        if self.effort == "high":
            best = min((f for f in found if f is not None), key=loss_key, default=None)
            if best is not None:
                found += [self._try(*_before(best, extra)) for extra in (SmoothQuant(), Equalize())]
        best = min((f for f in found if f is not None), key=loss_key, default=None)
        enough = best is not None and (best.loss <= ALLOWED or self._bounded(best))
        if best is not None and (not enough or self.effort == "high"):
            best = self._keep_worst(best)
        return best

    def _corrections(self, closest: Sequence[Int8Form]) -> Iterator[Int8Form | None]:
        """Correct the biases of the closest forms, those after the first only where that helped the one before."""
        for form in closest:
            if self.effort == "normal" and form.loss > _CORRECTABLE * ALLOWED:
                return
            corrected = self._try(*_corrected(form))
            yield corrected
            if self.effort == "normal" and (corrected is None or corrected.loss > _HELPED * form.loss):
                return

    def _keep_worst(self, form: Int8Form) -> Int8Form:
        """Return `form` with as many of its most sensitive layers in float as a small loss needs."""
        before = Pipeline(form.passes[:-1]).run(self.model, self.context).model
        name_nodes(before)
        losses = diagnose(before, form.built.model, self.judges.take(_RANKED_BY).with_batch_size(1))
        most, best = len(worst(losses, len(losses))) // 2, form
        counts = (1, 2) if form.loss <= ALLOWED else tuple(_doubling(most))
        for count in counts:
            kept = self._changed(form, exclude=worst(losses, count))
            if kept is not None and kept.loss < best.loss:
                best = kept
                if form.loss > ALLOWED >= kept.loss:
                    break
        return form if form.loss <= ALLOWED else best

    def _per_tensor(self, static: Int8Form) -> None:
        """Try one scale per weight, with which small products are faster."""
        spec = cast(QuantizeStatic, static.passes[-1])
        plain = replace(spec, per_channel=False)
        self._try(*static.passes[:-1], plain)
        if self.effort == "high":
            self._try(*static.passes[:-1], Equalize(), plain)

    def _try(self, *passes: Pass) -> Int8Form | None:
        form = self._form(*passes, changed=True)
        if form is None or not np.isfinite(form.loss):
            return None
        self.tried.append(form)
        self.context.progress("forms of INT8", len(self.tried), max(self._planned, len(self.tried)))
        return form

    def _form(self, *passes: Pass, changed: bool = False) -> Int8Form | None:
        """Return the judged form; None where it does not run, or where its last pass had to change something."""
        try:
            built = Pipeline(passes).run(self.model, self.context)
            if changed and not built.steps[-1].edits:
                return None
            loss, db = self._loss(built.model)
            return Int8Form(passes, built, loss, db + 10 * log10(loss / ALLOWED) if loss > 0 else -inf)
        except (ModelError, NativeError):
            return None

    def _loss(self, model: ir.Model) -> tuple[float, float]:
        """Return the loss and the signal-to-noise ratio.

        Where answers are counted, the closest of many forms on few samples is there by luck too: one that is close must
        be so on the samples that calibrate it as well. Ranges are of all of them together and fit no single one.
        """
        loss, db = self.judged.of(model)
        if loss > ALLOWED or self._others is None or not self.judged.counts:
            return loss, db
        return max(loss, self._others.of(model)[0]), db


def loss_key(form: Int8Form) -> float:
    """Return the loss of a form, as a sort key."""
    return form.loss


def _corrected(form: Int8Form) -> tuple[Pass, ...]:
    return (*form.passes[:-1], replace(cast(QuantizeStatic, form.passes[-1]), correct_bias=True))


def _before(form: Int8Form, extra: Pass) -> tuple[Pass, ...]:
    return (*form.passes[:-1], extra, form.passes[-1])


def _doubling(most: int) -> Iterator[int]:
    count = 1
    while count <= most:
        yield count
        count *= 2
