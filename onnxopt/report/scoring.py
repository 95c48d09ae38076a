"""Score one model, for `eval`."""

from pathlib import Path

from onnxopt import model_file
from onnxopt.errors import DataError
from onnxopt.measure.accuracy import Evaluation, Progress, evaluate
from onnxopt.measure.session import Runtime
from onnxopt.model_file import signature_of
from onnxopt.report import units
from onnxopt.report.document import Column, Document, Table
from onnxopt.report.job import choose_metric
from onnxopt.report.recording import score_record
from onnxopt.samples import ReadOptions, open_samples


def score_document(
    path: Path,
    data: object,
    *,
    labels: object = None,
    metric: str | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    runtime: Runtime,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Document:
    """Return the metric of the model at `path` on labelled samples.

    Raises:
        DataError: ONX208 there are no labels.
    """
    model = model_file.load(path)
    samples = open_samples(data, signature_of(model), labels=labels, options=read, limit=limit)
    chosen = choose_metric(metric, samples.labels, output, threshold)
    if chosen is None:
        raise DataError(
            "ONX208",
            "labels are needed to measure accuracy",
            where=samples.name,
            hint="Give --labels; to compare two models without labels use `onnxopt compare`.",
        )
    score = evaluate(model, samples, chosen, runtime, seed=seed, progress=progress)
    columns = (Column("model"), Column("metric"), *(Column(t, number=True) for t in ("value", "95 % interval", "n")))
    row = (str(path), chosen.name, *_cells(score, chosen.unit), str(score.n))
    record = score_record(score).model_dump(mode="json")
    data_out = {"model": str(path), "data": samples.name, "metric": chosen.name, "unit": chosen.unit, **record}
    return Document((Table(columns, (row,)),), data_out)


def _cells(score: Evaluation, unit: str) -> tuple[str, str]:
    interval = f"{units.score(score.interval.low, unit)} .. {units.score(score.interval.high, unit)}"
    return units.score(score.value, unit), interval
