"""A run that was cut goes on in its folder."""

import json
from pathlib import Path

import pytest

import onnxopt
from onnxopt.errors import UsageError
from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.model_file import load
from onnxopt.record.run import RunRecord
from onnxopt.report.findings import next_step
from onnxopt.run.folder import JOURNAL
from onnxopt.search import optimize
from onnxopt.search.bets import TrialOrder
from onnxopt.search.candidates import first_candidates
from onnxopt.search.observer import NullObserver
from onnxopt.search.workers import runner

MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"
FEW = ("simplify", "dynamic", "static-minmax")


class Impatient(NullObserver):
    """Presses Ctrl-C when a candidate is begun."""

    def __init__(self, at: str = "") -> None:
        self.at = at

    def started(self, candidate):
        if candidate.name == self.at:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """Keep the plan short, and make up latencies: no two are the same, and the later ones are faster."""
    calls: list[str] = []

    def measure(models, *_, **__):
        calls.extend(name for name in models if name != "baseline")
        speedup = 2 + 0.01 * len(calls)
        faster = Interval(speedup - 0.1, speedup, speedup + 0.1)
        return {
            name: Latency(1.0, 1, 1, 9, 1, 1, None if name == "baseline" else faster, None, 1, Interval(1, 1, 1))
            for name in models
        }

    monkeypatch.setattr(runner, "measure_latency", measure)
    monkeypatch.setattr(optimize, "first_candidates", lambda: tuple(c for c in first_candidates() if c.name in FEW))
    monkeypatch.setattr(optimize, "order_of", lambda candidates, _: TrialOrder(candidates, (), ()))
    return calls


def run(out: Path, at: str = "", **asked):
    options = {"max_drop": "5pp", "goal": "size", "latency_s": 0.02, "limit": 120, "target": "x86-vnni"} | asked
    return onnxopt.optimize(MODEL, "digits", out=out, observer=Impatient(at), **options)


def test_a_run_that_was_interrupted_reaches_the_same_answer(tmp_path, timed):
    whole = run(tmp_path / "whole")
    timed.clear()
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(out, "static-minmax")
    cut = RunRecord.model_validate_json((out / "run.json").read_text())
    assert cut.status == "interrupted"
    assert "onnxopt.passes" in load(out / "best.onnx").metadata_props
    kept = [line["model"] for line in map(json.loads, (out / JOURNAL).open()) if line.get("model")]
    assert kept
    assert {file.stem for file in (out / "trials").iterdir()} == set(kept)
    timed_before = timed.copy()

    resumed = run(out, resume=True)
    assert [t.name for t in resumed.record.trials] == [t.name for t in whole.record.trials]
    before = {t.name: t for t in cut.trials}
    assert [t.latency for t in resumed.record.trials if t.name in before] == [t.latency for t in before.values()]
    # Measured again is only what is proved, for which every measurement is new, and once more what won, in a hot loop.
    assert not set(timed_before) & set(timed[len(timed_before) : -len(resumed.record.proofs) - 1])
    assert resumed.record.winner == whole.record.winner
    assert resumed.best.read_bytes() == whole.best.read_bytes()
    assert not (out / "trials").exists()


def test_another_search_is_refused_and_nothing_is_lost(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(out, "static-minmax")
    before = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    with pytest.raises(UsageError, match=r"ONX110.*setting seed"):
        run(out, resume=True, seed=1)
    with pytest.raises(UsageError, match="ONX110: there is no search to resume"):
        run(tmp_path / "empty", resume=True)
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == before
    assert not (tmp_path / "empty").exists()


def test_the_smallest_and_the_fastest_are_there_where_they_are_not_the_best(tmp_path):
    found = run(tmp_path / "run")
    inside = [t for t in found.record.trials if t.verdict in ("within budget", "winner")]
    for name, told, cost in (
        ("smallest.onnx", found.record.smallest, lambda t: t.size_bytes),
        ("fastest.onnx", found.record.fastest, lambda t: -t.latency.speedup.value),
    ):
        assert (found.folder / name).exists() == (told is not None)
        if told is not None:
            assert told == min(inside, key=cost).name
            assert told != found.record.winner


def test_what_was_measured_is_taken_over_however_little_time_there_is(tmp_path):
    whole = run(tmp_path / "run")
    resumed = run(tmp_path / "run", resume=True, time_limit_s=1e-6)
    assert [t.name for t in resumed.record.trials] == [t.name for t in whole.record.trials]
    assert resumed.record.winner == whole.record.winner
    assert resumed.best.read_bytes() == whole.best.read_bytes()


def test_without_any_time_nothing_is_said_of_the_model(tmp_path):
    found = run(tmp_path / "run", time_limit_s=1e-9)
    assert not found.record.trials
    assert found.record.reason.startswith("no candidate was tried: the time limit of 1e-09 s")
    assert "resume" in next_step(found.record, found.folder)
