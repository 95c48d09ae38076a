"""Score one model on labelled samples."""

from dataclasses import dataclass
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.errors import DataError
from onnxopt.measure.accuracy import Evaluation, Progress, evaluate
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Given, as_graph, signature_of
from onnxopt.quantization.diagnosis.simulation import Simulation
from onnxopt.quantization.diagnosis.simulation import simulate as simulate_on
from onnxopt.record.recording import score_record
from onnxopt.run.job import choose_metric
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.target import Target, target_of


@dataclass(frozen=True)
class ScoredThere:
    """A model's score as another processor would give it."""

    target: Target
    simulation: Simulation
    evaluation: Evaluation


@dataclass(frozen=True)
class Scored:
    """A model's score, and what it was measured on; and its scores on simulated processors."""

    metric: Metric
    samples: str
    evaluation: Evaluation
    there: tuple[ScoredThere, ...] = ()


def score(
    model: Given,
    data: object,
    *,
    labels: object = None,
    metric: str | Metric | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    tasks: TaskOptions | None = None,
    runtime: Runtime,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    simulate: str | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Return the metric of `model` on labelled samples, here and as on each of the targets in `simulate`.

    Raises:
        DataError: ONX208 there are no labels.
        UsageError: ONX102 no such target.
    """
    targets = [target_of(name.strip()) for name in simulate.split(",")] if simulate else []
    graph = as_graph(model)
    samples = open_samples(data, signature_of(graph), labels=labels, options=read, limit=limit)
    chosen = choose_metric(metric, samples.labels, output, threshold, tasks, signature_of(graph))
    if chosen is None:
        raise DataError(
            "ONX208",
            "labels are needed to measure accuracy",
            where=samples.name,
            hint="Give --labels; to compare two models without labels use `onnxopt compare`.",
        )
    here = evaluate(graph, samples, chosen, runtime, seed=seed, progress=progress)
    there = []
    for target in targets:
        found = simulate_on(graph, target, runtime)
        scored = evaluate(found.model, samples, chosen, found.runtime, seed=seed, progress=progress)
        there.append(ScoredThere(target, found, scored))
    return Scored(chosen, samples.name, here, tuple(there))


def score_document(path: Path, scored: Scored) -> Document:
    """Return the score of the model at `path` with its interval."""
    found, unit = scored.evaluation, scored.metric.unit
    columns = (Column("model"), Column("metric"), *(Column(t, number=True) for t in ("value", "95 % interval", "n")))
    row = (str(path), scored.metric.name, *_cells(found, unit), str(found.n))
    record = score_record(found).model_dump(mode="json")
    data = {"model": str(path), "data": scored.samples, "metric": scored.metric.name, "unit": unit, **record}
    if not scored.there:
        return Document((Table(columns, (row,)),), data)
    rows = [(*row, "this machine")]
    for one in scored.there:
        rows.append(
            (str(path), scored.metric.name, *_cells(one.evaluation, unit), str(one.evaluation.n), one.target.name)
        )
    data["simulated"] = [_record_there(one) for one in scored.there]
    notes = [line for one in scored.there for line in _notes(one)]
    return Document((Table((*columns, Column("as on")), tuple(rows)), Text(tuple(notes))), data)


def _record_there(one: ScoredThere) -> dict[str, object]:
    found = one.simulation
    layers: dict[str, object] = {"saturating_pairs": dict(found.saturating), "not_simulated": dict(found.left)}
    return {"target": one.target.name, **score_record(one.evaluation).model_dump(mode="json"), **layers}


def _notes(one: ScoredThere) -> list[str]:
    found, name = one.simulation, one.target.name
    if one.target.reduce_range:
        lines = [f"{name}: {len(found.saturating)} layers have weights whose products can saturate at 16 bits."]
    else:
        lines = [f"{name}: products are exact."]
    return lines + [f"{name}: {layer} is computed as here: {why}." for layer, why in found.left.items()]


def _cells(score: Evaluation, unit: str) -> tuple[str, str]:
    interval = f"{units.score(score.interval.low, unit)} .. {units.score(score.interval.high, unit)}"
    return units.score(score.value, unit), interval
