"""A finished run as an entry of an MLflow server or folder."""

import json
from collections.abc import Iterator
from pathlib import Path

from onnxopt.errors import FileError, first_line
from onnxopt.extras import require
from onnxopt.record.run import RunRecord
from onnxopt.run.finished import AnyRun, Run, read_run
from onnxopt.run.folder import PAGE, RECORD

FILES = (RECORD, PAGE)
"""Entries beside the figures; the model itself stays in the run folder, its checksum is a tag."""


def log_run(run: AnyRun, *, uri: str, experiment: str = "onnxopt") -> str:
    """Write the settings, figures and report of a run to the MLflow store at `uri`.

    Args:
        run: a run folder, or a run as an object.
        uri: the address of a store, as MLflow names them: `http://host:5000`, `sqlite:///runs.db`, a folder.
        experiment: the one it belongs to; made if it is new.

    Returns:
        The identifier that MLflow gave it.

    Raises:
        UsageError: ONX108 mlflow is not installed.
        FileError: ONX501 there is no run, ONX505 it cannot be read, ONX503 the store cannot be written.
    """
    opened = run if isinstance(run, Run) else read_run(run)
    record, folder = opened.record, opened.folder
    mlflow = require("mlflow", "mlflow", "a log of runs")
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if found is None else found.experiment_id
        entry = client.create_run(place, run_name=folder.resolve().name, tags=_tags(record))
        number: str = entry.info.run_id
        for name, value in _settings(record):
            client.log_param(number, name, value)
        for name, figure in _figures(record):
            client.log_metric(number, name, figure)
        for file in FILES:
            if (folder / file).is_file():
                client.log_artifact(number, str(folder / file))
        client.set_terminated(number)
    except Exception as error:  # MLflow passes on what its stores raise
        hint = "Check the address, and that you may write there."
        raise FileError("ONX503", "the run cannot be logged", where=uri, why=first_line(error), hint=hint) from error
    return number


def _tags(record: RunRecord) -> dict[str, str]:
    winner = record.trial(record.winner) if record.status == "won" else None
    return {
        "status": record.status,
        "reason": record.reason,
        "passes": "" if winner is None else winner.passes,
        "model.sha256": record.model.sha256 or "",
        **{f"best.sha256.{file.name}": file.sha256 for file in record.best},
        "versions": json.dumps(record.environment.versions),
        **({"warning": record.warning} if record.warning else {}),
    }


def _settings(record: RunRecord) -> Iterator[tuple[str, object]]:
    yield "model", Path(record.model.path).name
    for name, value in record.settings.model_dump(mode="json").items():
        if value is not None:
            yield name, value


def _figures(record: RunRecord) -> Iterator[tuple[str, float]]:
    yield "size_before_bytes", record.model.size_bytes
    yield "size_after_bytes", sum(file.size_bytes for file in record.best)
    proof = next((p for p in record.proofs if p.accepted), None)
    if proof is None:
        return
    speedup = proof.latency.speedup
    found = {
        "score_before": proof.baseline.value,
        "score_after": proof.score.value,
        "drop": proof.drop.value,
        "confidence": proof.confidence,
        "p50_before_ms": proof.baseline_latency.p50_ms,
        "p50_after_ms": proof.latency.p50_ms,
    }
    if speedup is not None:
        found |= {"speedup": speedup.value, "speedup_low": speedup.low, "speedup_high": speedup.high}
    yield from ((name, value) for name, value in found.items() if value is not None)
