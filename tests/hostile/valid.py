"""A valid run folder and journal to mutate, of a search that measures nothing."""

import hashlib
import json
from pathlib import Path
from unittest import mock

import numpy as np

import onnxopt
from onnxopt.measure.device.kit import FORMAT
from onnxopt.search.journal.journal import Journal
from onnxopt.search.journal.notes import names
from onnxopt.search.trial import Candidate, Trial, Verdict
from tests.run import fakes

MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"
ABOUT = {"model": "m", "metric": "top1"}


def valid_run(folder: Path) -> dict[str, bytes]:
    """Return the files of a run that may not be resumed: its model is not where run.json says."""
    with mock.patch("onnxopt.run.recorder.search", fakes.fake_search):
        onnxopt.optimize(MODEL, "digits", limit=80, out=folder)
    record = json.loads((folder / "run.json").read_text())
    record["options"]["model"] = "/nowhere/m.onnx"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files["run.json"] = json.dumps(record).encode()
    files["result.json"] = json.dumps(_device(hashlib.sha256(files["best.onnx"]).hexdigest())).encode()
    return files


def _device(digest: str) -> dict[str, object]:
    model = {"name": "m", "sha256": digest, "size_bytes": 9, "difference": 0.0, "same_class": 3, "classified": 3}
    times = {key: [1.0, 2.0] for key in ("p50_ms", "p90_ms", "p99_ms", "first_run_ms", "load_ms", "speedup")}
    facts = {"name": "board", "cpu": "c", "architecture": "arm64", "flags": ["asimd"], "governor": None, "threads": 1}
    return {
        "format": FORMAT,
        "device": {**facts, "board": None, "os": "o", "python": "3", "onnxruntime": "1", "numpy": "2"},
        "models": [model, model],
        "batch_size": 1,
        "epochs": [{**times, "runs": [10, 10]}] * 3,
        "refused": None,
        "celsius": {"before": [40.0], "after": [41.0]},
    }


def candidate() -> Candidate:
    """Return the candidate that the journal knows."""
    from onnxopt.catalog import parse

    return Candidate("simplify", parse("simplify"))


def valid_journal(path: Path) -> bytes:
    """Return a journal with a trial and a note."""
    journal = Journal(path, ABOUT)
    journal.begin()
    journal.started(candidate())
    journal.finished(
        Trial(
            candidate(), Verdict.SLOWER, "r", (), 9, fakes.score(0.9), fakes.drop(0.0), fakes.latency(1.2, 0.9),
            fakes.latency(1.2),
        ),
        "d",
        None,
    )  # fmt: skip
    journal.recall("worst layers", lambda: ["a", "b"], names)
    return path.read_bytes()


def resume(path: Path) -> None:
    """Read a journal as a search that goes on does."""
    journal = Journal(path, ABOUT, resume=True)
    trial = journal.trial(candidate(), fakes.score(0.9))
    journal.model(candidate())
    journal.digest(candidate())
    journal.recall("worst layers", lambda: ["c"], names)
    if trial is not None and trial.score is not None:
        np.asarray(trial.score.rows, np.float64)
