"""A model beside its baseline: score, fidelity, latency, size."""

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import ModelError
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.fidelity_judge import FidelityJudge
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.latency import Latency, drawn_inputs, measure_latency
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.statistics import Drop
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, as_graph, given, signature_of
from onnxopt.options.choices import refuse_non_positive
from onnxopt.pipeline import StageProgress
from onnxopt.quantization.diagnosis.simulation import saturating_here
from onnxopt.record.recording import left_out_sentence
from onnxopt.record.trial import DropRecord, LatencyRecord, ScoreRecord
from onnxopt.report.details import details_rows, evened_sentence
from onnxopt.run.job import budget_of, choose_metric, tasks_of
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.search.budget import Budget
from onnxopt.search.parts import typical_feeds


@dataclass(frozen=True)
class Judged:
    """One metric of both models, on the same samples."""

    metric: str
    unit: str
    before: Evaluation
    after: Evaluation
    drop: Drop
    allowed: float

    @property
    def within(self) -> bool:
        """Whether the measured drop is within budget."""
        return self.drop.within(self.allowed)


@dataclass(frozen=True)
class Compared(Displayed):
    """The result of a comparison.

    Attributes:
        accuracy: against labels; None without labels.
        fidelity: agreement of the model with the baseline.
        latency: the latency of the baseline and the model.
        size_bytes: the size in bytes of the baseline and the model.
        names: the names of the baseline and the model.
        choice: the rule for judging outputs, with its reason, in one sentence.
        left_out: numbers of the samples for which the baseline gives NaN.
        saturating: layers of each whose sums can saturate on this processor, so that their results are others there.
    """

    accuracy: Judged | None
    fidelity: Judged
    latency: tuple[Latency, Latency]
    size_bytes: tuple[int, int]
    names: tuple[str, str] = ("the baseline", "the other model")
    choice: str = ""
    left_out: tuple[int, ...] = ()
    saturating: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def within(self) -> bool:
        """Whether the drop is within budget: of accuracy with labels, else of fidelity."""
        return (self.accuracy or self.fidelity).within

    @property
    def warning(self) -> str:
        """The reason why the baseline's score on the labels proves nothing; "" for none."""
        return "" if self.accuracy is None else self.accuracy.before.warning

    @property
    def document(self) -> Document:
        """One row per figure: both models, the difference, its interval."""
        return compare_document(self)


def compare(
    model: Given,
    other: Given,
    data: object,
    *,
    labels: object = None,
    metric: str | Metric | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    max_drop: str | float | None = None,
    tasks: TaskOptions | None = None,
    runtime: Runtime | None = None,
    batch_size: int = 1,
    seconds: float = 3.0,
    hot: bool = False,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: StageProgress | None = None,
) -> Compared:
    """Measure accuracy (with labels), fidelity, latency and size of two models on the same samples, side by side.

    Args:
        model: the baseline.
        other: a model with the same inputs, such as one made from it.
        data: samples to run both on.
        labels: one per sample, instead of those in `data`.
        metric: name or `file.py:function`; None decides by the labels.
        output: the model output to score; None for the first that fits.
        threshold: the score above which a single score means "positive".
        max_drop: `1pp` (points), `1%` (of the baseline's score), or a number in the metric's unit; None for 1pp, or
            1% where the metric has no points.
        tasks: the tasks as which outputs are judged, and how these are read; None decides by evidence.
        runtime: configuration of ONNX Runtime.
        batch_size: the batch size at which latency is measured.
        seconds: seconds of timed runs.
        hot: whether to time one input repeatedly, instead of up to 32 alternating inputs of `data`.
        limit: largest number of samples of `data`.
        read: options of the data readers.
        seed: the seed of intervals and of the order of runs.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 a value is out of range.
        ModelError: ONX308 the models have different inputs; further codes as in docs/errors.md.
    """
    refuse_non_positive(seconds=seconds, batch_size=batch_size)
    if max_drop is not None:
        Budget.parse(str(max_drop))  # before anything is loaded
    first, second = given(model), given(other)
    before, after = as_graph(first), as_graph(second)
    signature = signature_of(before)
    inputs, other_inputs = ([s.name for s in signature_of(m).inputs] for m in (before, after))
    if inputs != other_inputs:
        raise ModelError(
            "ONX308",
            "the two models do not have the same inputs",
            where=_name(second, "the other model"),
            why=f"{', '.join(other_inputs)} against {', '.join(inputs)}",
            hint="Compare a model with the baseline that it was made from.",
        )
    runtime = runtime or Runtime()
    counted = None if progress is None else lambda done, total: progress("samples", done, total)
    samples = open_samples(data, signature, labels=labels, options=read, limit=limit)
    chosen = choose_metric(metric, samples.labels, output=output, threshold=threshold, tasks=tasks, signature=signature)
    budget = budget_of(max_drop, chosen)
    accuracy: Judged | None = None
    if chosen is not None:
        by_labels = LabelJudge(before, samples, runtime, chosen, seed=seed)
        score = by_labels.evaluate(after, progress=counted)
        allowed = budget.allowed(by_labels.baseline().value)
        accuracy = Judged(chosen.name, chosen.unit, by_labels.baseline(), score, by_labels.drop(score), allowed)
    by_outputs = FidelityJudge(before, samples, runtime, tasks_of(tasks, output), seed=seed)
    agreement = by_outputs.evaluate(after, progress=counted)
    fidelity = Judged(
        by_outputs.metric_name,
        by_outputs.comparison.unit,
        by_outputs.baseline(),
        agreement,
        by_outputs.drop(agreement),
        budget.allowed(1.0),
    )
    fed = (typical_feeds(samples, batch_size),) if hot else drawn_inputs(samples, batch_size)
    timed = measure_latency({"first": before, "second": after}, fed, runtime, seconds=seconds, seed=seed)
    sizes = (model_file.size_of(first), model_file.size_of(second))
    names = (_name(first, "the baseline"), _name(second, "the other model"))
    choice, left_out = by_outputs.choice, agreement.left_out
    saturating = saturating_here(before, runtime), saturating_here(after, runtime)
    latency = timed["first"], timed["second"]
    return Compared(accuracy, fidelity, latency, sizes, names, choice, left_out, saturating)


def _name(model: Path | ir.Model, otherwise: str) -> str:
    return str(model) if isinstance(model, Path) else otherwise


def compare_document(result: Compared) -> Document:
    """Return one row per figure: baseline, model, their difference with its interval, number of samples or runs."""
    columns = (Column("figure"), *(Column(t, number=True) for t in ("baseline", "model", "change")), Column("n"))
    rows = []
    if result.accuracy is not None:
        rows.append(_judged(result.accuracy, result.accuracy.metric))
    rows.append(_judged(result.fidelity, f"fidelity:\n{result.fidelity.metric}"))
    for judged in filter(None, (result.accuracy, result.fidelity)):
        rows += details_rows(judged.before, judged.after)
    before, after = result.latency
    speedup = after.speedup
    words = "-" if speedup is None else units.faster(speedup.low, speedup.value, speedup.high)
    words = "unsure" if after.unsure else words
    faster = words.replace(" [", "\n[")
    p50s = ("-", "-") if after.unsure else (units.significant(before.p50_ms), units.significant(after.p50_ms))
    rows.append((f"p50 ms, batch {after.batch_size}", *p50s, faster, f"{before.n}, {after.n}"))
    rows.append(("p90 ms", units.significant(before.p90_ms), units.significant(after.p90_ms), "", ""))
    sizes = tuple(map(units.size, result.size_bytes))
    rows.append(("size", *sizes, units.smaller(result.size_bytes[0] / result.size_bytes[1]), ""))
    first, second = result.names
    decides = result.accuracy or result.fidelity
    evened = evened_sentence(DropRecord.model_validate(decides.drop), decides.allowed, decides.unit)
    lines = [f"Baseline: {first}.", f"Model: {second}.", _verdict(decides), *filter(None, [evened])]
    if after.unsure:
        lines.append(f"The speed-up is unsure: {after.unsure}.")
    lines += [_saturation(name, layers) for name, layers in zip(result.names, result.saturating, strict=True) if layers]
    first_lines = tuple(filter(None, (result.choice, left_out_sentence(result.left_out), result.warning)))
    return Document((Text(first_lines), Table(columns, tuple(rows)), Text(tuple(lines))), _data(result))


def _saturation(name: str, layers: tuple[str, ...]) -> str:
    count = units.many(len(layers), "layer")
    return (
        f"Sums in {count} of {name} can exceed 16 bits on this processor, and are wrong then: `onnxopt check` names "
        "them, and `quantize` of the float model on this machine makes a file without them."
    )


def _judged(judged: Judged, name: str) -> tuple[str, ...]:
    drop = judged.drop
    points = " points" if judged.unit == "share" else ""
    word = "drops" if drop.value >= 0 else "gains"
    difference = f"{word} {units.points(abs(drop.value), judged.unit)}{points}"
    interval = units.points_interval(drop.interval, judged.unit)
    scores = (units.score(judged.before.value, judged.unit), units.score(judged.after.value, judged.unit))
    return (name, *scores, f"{difference}\n{interval}", str(drop.n))


def _verdict(judged: Judged) -> str:
    confidence = units.percent(judged.drop.probability_within(judged.allowed))
    allowed = units.points(judged.allowed, judged.unit)
    unit = " points" if judged.unit == "share" else ""
    inside = "within" if judged.within else "OVER"
    return (
        f"The measured drop of {judged.metric} is {inside} the budget of {allowed}{unit}; probability that the true "
        f"drop is within budget: {confidence}."
    )


def _data(result: Compared) -> dict[str, object]:
    judged = {"accuracy": result.accuracy, "fidelity": result.fidelity}
    return {
        "first": result.names[0],
        "second": result.names[1],
        "within": result.within,
        "choice": result.choice,
        "left_out": list(result.left_out),
        "warning": result.warning,
        "saturating": list(map(list, result.saturating)),
        **{key: None if value is None else _judged_data(value) for key, value in judged.items()},
        "latency": [LatencyRecord.model_validate(latency).model_dump(mode="json") for latency in result.latency],
        "size_bytes": list(result.size_bytes),
    }


def _judged_data(judged: Judged) -> dict[str, object]:
    return {
        "metric": judged.metric,
        "unit": judged.unit,
        "first": ScoreRecord.model_validate(judged.before).model_dump(mode="json"),
        "second": ScoreRecord.model_validate(judged.after).model_dump(mode="json"),
        "drop": DropRecord.model_validate(judged.drop).model_dump(mode="json"),
        "allowed_drop": judged.allowed,
        "confidence": judged.drop.probability_within(judged.allowed),
        "within": judged.within,
    }
