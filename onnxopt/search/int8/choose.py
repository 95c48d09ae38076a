"""Choice of the fastest INT8 form with small error, without labels."""

from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt.graph.lint import QUANTIZED_ALREADY, is_quantized
from onnxopt.measure.latency import drawn_inputs, measure_latency
from onnxopt.measure.latency.latency_table import fastest_ms
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.options.choices import Effort
from onnxopt.passes.equalize import Equalize
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.pipeline import Context, Pass
from onnxopt.quantization.placement.measured import unmeasurable
from onnxopt.samples import Samples
from onnxopt.search.int8 import forms as quantize_forms
from onnxopt.search.int8.forms import Int8Form, Int8Forms, loss_key
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.parts import typical_feeds

_SAME = 1.02
"""Ratio of times below which two forms count as equally fast; then the one with less loss is chosen."""
_SECONDS = 2.0


@dataclass(frozen=True)
class Chosen:
    """The chosen form.

    Attributes:
        form: the chosen form; its last pass quantizes, or it is only simplified.
        reason: the reason for the choice.
        forms: all tried forms, the simplified float model included.
        judged: the rule of judging and its reason, in one sentence.
    """

    form: Int8Form
    reason: str
    forms: tuple[Int8Form, ...]
    judged: str = ""


def fastest_int8(
    model: ir.Model,
    samples: Samples,
    context: Context,
    effort: Effort = "normal",
    tasks: TaskOptions | None = None,
    *,
    time_limit: float | None = None,
) -> Chosen:
    """Return the fastest INT8 form of `model` with a small loss, or the simplified float model if none is faster.

    Args:
        model: the input model (not modified).
        samples: samples without need of labels; at most 256 are used.
        context: target and seed.
        effort: `high` also tries more calibrations, and for the closest of them bias correction, equalization,
            smoothing, and keeping the most sensitive layers in float.
        tasks: tasks of the outputs and options of reading them; None recognizes them.
        time_limit: seconds after which forms are no longer made, and those made so far are timed; None for no limit.

    Raises:
        ModelError, NativeError: the model cannot be loaded or run.
        DataError: the samples fit no calibration; see `QuantizeStatic`.
    """
    deadline = Deadline(time_limit)
    forms = Int8Forms(model, samples, context, effort, tasks)
    found = _chosen(forms, context, deadline)
    return replace(found, judged=forms.judged.choice)


def _chosen(forms: Int8Forms, context: Context, deadline: Deadline) -> Chosen:
    plain = forms.plain()
    ended = deadline.in_time(forms.try_all) is not None
    found = _of_tried(forms, plain, context, deadline)
    if ended:
        return found
    return replace(found, reason=f"{found.reason}; the time limit of {deadline.limit_s:g} seconds ended the trials")


def _of_tried(forms: Int8Forms, plain: Int8Form, context: Context, deadline: Deadline) -> Chosen:
    allowed = quantize_forms.ALLOWED
    if not forms.tried:
        said = "no INT8 form was made" if deadline.over() else "nothing in this model can be quantized"
        return Chosen(plain, f"{said}{_already(forms.model)}", (plain,))
    close = [form for form in forms.tried if form.loss <= allowed]
    if not close:
        least = min(form.loss for form in forms.tried)
        reason = f"the error of every INT8 form is too large: {least:.3f}, allowed {allowed}"
        return Chosen(plain, reason, (plain, *forms.tried))
    why = unmeasurable(context.target)
    if why is not None:
        best = min(close, key=loss_key)
        return Chosen(best, f"the smallest error; {why}", (plain, *forms.tried))
    return _fastest(forms, plain, _closest_by_graph(close), deadline)


def _fastest(forms: Int8Forms, plain: Int8Form, close: list[Int8Form], deadline: Deadline) -> Chosen:
    feeds, runtime = typical_feeds(forms.judges, 1), forms.runtime
    rest = [form for form in forms.tried if form not in close]
    times = fastest_ms([plain.built.model, *(f.built.model for f in close)], feeds, runtime)
    plain, *timed = [replace(f, time_ms=t) for f, t in zip([plain, *close], times, strict=True)]
    best, all_forms = _pick([plain, *timed]), [plain, *timed, *rest]
    statics = [form for form in timed if isinstance(form.passes[-1], QuantizeStatic)]
    placed = deadline.in_time(lambda: forms.placed(_pick(statics))) if statics else None
    if placed is not None:
        before, after = fastest_ms([best.built.model, placed.built.model], feeds, runtime)
        placed = replace(placed, time_ms=_time(best) * after / before)
        best = _pick([best, placed])
        all_forms.append(placed)
    tried = tuple(all_forms)
    if best is plain:
        return Chosen(plain, "no INT8 form with a small error is faster than float", tried)
    models = {"original": forms.model, "best": best.built.model}
    fastest = measure_latency(models, drawn_inputs(forms.judges, 1), runtime, seconds=_SECONDS)["best"]
    speed = fastest.speedup
    if speed is None:
        return Chosen(plain, f"whether the best INT8 form is faster could not be measured: {fastest.unsure}", tried)
    said = f"speed-up {speed.value:.2f}x [{speed.low:.2f}, {speed.high:.2f}]"
    if speed.low <= 1:
        return Chosen(plain, f"the best INT8 form is not significantly faster: {said}", tried)
    return Chosen(best, f"the fastest of {len(tried)} forms: {said}; loss {best.loss:.4f}", tried)


def _closest_by_graph(forms: list[Int8Form]) -> list[Int8Form]:
    """Return the closest form of each graph; forms of one graph differ only in numbers and take the same time."""
    best = dict[tuple[Pass, ...], Int8Form]()
    for form in sorted(forms, key=loss_key):
        shape = (
            replace(p, method="minmax", correct_bias=False) if isinstance(p, QuantizeStatic) else p
            for p in form.passes
            if not isinstance(p, Equalize)
        )
        best.setdefault(tuple(shape), form)
    return list(best.values())


def _pick(forms: list[Int8Form]) -> Int8Form:
    fastest = min(map(_time, forms))
    return min((f for f in forms if _time(f) <= fastest * _SAME), key=loss_key)


def _time(form: Int8Form) -> float:
    assert form.time_ms is not None
    return form.time_ms


def _already(model: ir.Model) -> str:
    """Return the advice for a file that is already quantized."""
    return f": {QUANTIZED_ALREADY}" if any(map(is_quantized, model.graph)) else ""
