"""Score one model on labelled samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnxopt.document import units
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import DataError
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.accuracy import evaluate as measured
from onnxopt.measure.guessing import little_better
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.statistics import Interval
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, as_graph, signature_of
from onnxopt.model_file.given import name_of_given
from onnxopt.pipeline import StageProgress
from onnxopt.quantization.diagnosis.simulation import Simulation
from onnxopt.quantization.diagnosis.simulation import simulate as simulate_on
from onnxopt.record.trial import ScoreRecord
from onnxopt.run.job import choose_metric
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.target import Target, target_of


@dataclass(frozen=True)
class SimulatedEvaluation:
    """A model's score on a simulated processor."""

    target: Target
    simulation: Simulation
    evaluation: Evaluation


@dataclass(frozen=True)
class Evaluated(Displayed):
    """A model's score, here and on simulated processors.

    Attributes:
        model: its path, or `the model` in memory.
        metric: the metric of the score.
        data: name of the samples.
        evaluation: the score as computed here.
        simulated: the scores as other processors would compute them, by target as named in the call.
        hint: the likely reason of a score that is little better than a guess; "" for a better one.
    """

    model: str
    metric: Metric
    data: str
    evaluation: Evaluation
    simulated: Mapping[str, SimulatedEvaluation] = field(default_factory=dict)
    hint: str = ""

    @property
    def value(self) -> float:
        """The metric of all samples, as computed here."""
        return self.evaluation.value

    @property
    def interval(self) -> Interval:
        """The 95 % interval of `value`."""
        return self.evaluation.interval

    @property
    def n(self) -> int:
        """The number of samples."""
        return self.evaluation.n

    @property
    def document(self) -> Document:
        """One row per processor."""
        return _document(self)


def evaluate(
    model: Given,
    data: object,
    *,
    labels: object = None,
    metric: str | Metric | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    tasks: TaskOptions | None = None,
    runtime: Runtime | None = None,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    simulate: str | Sequence[str] = (),
    progress: StageProgress | None = None,
) -> Evaluated:
    """Measure the accuracy of a model on labelled samples.

    Args:
        model: the input model (not modified).
        data: labelled samples, see `onnxopt.open_samples`.
        labels: one per sample, instead of those in `data`.
        metric: name or `file.py:function`; None decides by the labels.
        output: the model output to score; None for the first that fits.
        threshold: the score above which a single score means "positive".
        tasks: options for reading outputs, such as the layout of boxes; None decides by evidence.
        runtime: configuration of the runtime.
        limit: largest number of samples.
        read: options of the data readers.
        seed: the seed of the interval.
        simulate: targets such as `x86-avx2` or `arm64`, as which an INT8 model is computed too.
        progress: called with the step, the finished and the total amount.

    Raises:
        DataError: ONX208 there are no labels; further codes as in docs/errors.md.
        UsageError: ONX102 unknown target.
    """
    names = simulate.split(",") if isinstance(simulate, str) else simulate
    targets = {name.strip(): target_of(name.strip()) for name in names if name.strip()}
    runtime = runtime or Runtime()
    counted = None if progress is None else lambda done, total: progress("samples", done, total)
    graph = as_graph(model)
    samples = open_samples(data, signature_of(graph), labels=labels, options=read, limit=limit)
    chosen = choose_metric(
        metric, samples.labels, output=output, threshold=threshold, tasks=tasks, signature=signature_of(graph)
    )
    if chosen is None:
        raise DataError(
            "ONX208",
            "accuracy needs labels",
            where=samples.name,
            hint="Give --labels; to compare two models without labels use `onnxopt compare`.",
        )
    here = measured(graph, samples, chosen, runtime, seed=seed, progress=counted)
    simulated = {}
    for name, target in targets.items():
        found = simulate_on(graph, target, runtime)
        scored = measured(found.model, samples, chosen, found.runtime, seed=seed, progress=counted)
        simulated[name] = SimulatedEvaluation(target, found, scored)
    hint = little_better(here, samples.labels)
    return Evaluated(name_of_given(model, "the model"), chosen, samples.name, here, simulated, hint)


def _document(scored: Evaluated) -> Document:
    found, unit = scored.evaluation, scored.metric.unit
    columns = (Column("model"), Column("metric"), *(Column(t, number=True) for t in ("value", "95 % interval", "n")))
    row = (scored.model, scored.metric.name, *_cells(found, unit), str(found.n))
    record = ScoreRecord.model_validate(found).model_dump(mode="json")
    data = {"model": scored.model, "data": scored.data, "metric": scored.metric.name, "unit": unit, **record}
    hint = (Text((scored.hint,)),) if scored.hint else ()
    data["hint"] = scored.hint
    if not scored.simulated:
        return Document((Table(columns, (row,)), *hint), data)
    rows = [(*row, "this machine")]
    for one in scored.simulated.values():
        rows.append(
            (scored.model, scored.metric.name, *_cells(one.evaluation, unit), str(one.evaluation.n), one.target.name)
        )
    data["simulated"] = [_record_there(one) for one in scored.simulated.values()]
    notes = [line for one in scored.simulated.values() for line in _notes(one)]
    return Document((Table((*columns, Column("processor")), tuple(rows)), Text(tuple(notes)), *hint), data)


def _record_there(one: SimulatedEvaluation) -> dict[str, object]:
    found = one.simulation
    layers: dict[str, object] = {"saturating_pairs": dict(found.saturating), "not_simulated": dict(found.left)}
    return {"target": one.target.name, **ScoreRecord.model_validate(one.evaluation).model_dump(mode="json"), **layers}


def _notes(one: SimulatedEvaluation) -> list[str]:
    found, name = one.simulation, one.target.name
    if one.target.reduce_range:
        lines = [f"{name}: {len(found.saturating)} layers can saturate at 16 bits in sums of two products."]
    else:
        lines = [f"{name}: products do not saturate."]
    return lines + [f"{name}: {layer} is not simulated: {why}." for layer, why in found.left.items()]


def _cells(score: Evaluation, unit: str) -> tuple[str, str]:
    interval = f"[{units.score(score.interval.low, unit)}, {units.score(score.interval.high, unit)}]"
    return units.score(score.value, unit), interval
