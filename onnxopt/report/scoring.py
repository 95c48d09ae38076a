"""Score one model on labelled samples."""

from dataclasses import dataclass
from pathlib import Path

from onnxopt.errors import DataError
from onnxopt.measure.accuracy import Evaluation, Progress, evaluate
from onnxopt.measure.score import Metric
from onnxopt.measure.session import Runtime
from onnxopt.model_file import Given, as_graph, signature_of
from onnxopt.report import units
from onnxopt.report.document import Column, Document, Table
from onnxopt.report.job import choose_metric
from onnxopt.report.recording import score_record
from onnxopt.samples import ReadOptions, open_samples


@dataclass(frozen=True)
class Scored:
    """A model's score, and what it was measured on."""

    metric: Metric
    samples: str
    evaluation: Evaluation


def score(
    model: Given,
    data: object,
    *,
    labels: object = None,
    metric: str | Metric | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    runtime: Runtime,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scored:
    """Return the metric of `model` on labelled samples.

    Raises:
        DataError: ONX208 there are no labels.
    """
    graph = as_graph(model)
    samples = open_samples(data, signature_of(graph), labels=labels, options=read, limit=limit)
    chosen = choose_metric(metric, samples.labels, output, threshold)
    if chosen is None:
        raise DataError(
            "ONX208",
            "labels are needed to measure accuracy",
            where=samples.name,
            hint="Give --labels; to compare two models without labels use `onnxopt compare`.",
        )
    return Scored(chosen, samples.name, evaluate(graph, samples, chosen, runtime, seed=seed, progress=progress))


def score_document(path: Path, scored: Scored) -> Document:
    """Return the score of the model at `path` with its interval."""
    found, unit = scored.evaluation, scored.metric.unit
    columns = (Column("model"), Column("metric"), *(Column(t, number=True) for t in ("value", "95 % interval", "n")))
    row = (str(path), scored.metric.name, *_cells(found, unit), str(found.n))
    record = score_record(found).model_dump(mode="json")
    data = {"model": str(path), "data": scored.samples, "metric": scored.metric.name, "unit": unit, **record}
    return Document((Table(columns, (row,)),), data)


def _cells(score: Evaluation, unit: str) -> tuple[str, str]:
    interval = f"{units.score(score.interval.low, unit)} .. {units.score(score.interval.high, unit)}"
    return units.score(score.value, unit), interval
