"""A search that was cut goes on where it was, and reaches the same answer."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import FileError, NativeError, UsageError
from onnxopt.measure.metrics.user_metric import user_metric
from onnxopt.model_file import to_bytes
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.search import optimize
from onnxopt.search.bets import TrialOrder
from onnxopt.search.budget import Budget
from onnxopt.search.candidates import first_candidates, static_pass
from onnxopt.search.journal.journal import MOST_DEATHS, Journal
from onnxopt.search.journal.notes import candidate_data, maybe_candidate, names, numbers
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, SearchResult, Trial, Verdict
from onnxopt.search.workers.runner import LocalRunner
from tests import builders
from tests.search.fakes import parts

ABOUT = {"model": "m", "samples": "s"}
SETTINGS = Settings(Budget(0.5), target="x86-vnni", latency_s=0.02)
FEW = ("simplify", "dynamic", "static-minmax")


@pytest.fixture
def counted(monkeypatch):
    """Count what is built, and keep the plan short."""
    built: list[str] = []
    real = LocalRunner.build

    def build(self, candidate):
        built.append(candidate.name)
        return real(self, candidate)

    monkeypatch.setattr(LocalRunner, "build", build)
    monkeypatch.setattr(optimize, "first_candidates", lambda: tuple(c for c in first_candidates() if c.name in FEW))
    monkeypatch.setattr(optimize, "order_of", lambda candidates, _: TrialOrder(candidates, (), ()))
    return built


def run(path: Path, *, resume: bool = False) -> SearchResult:
    journal = Journal(path, ABOUT, resume=resume)
    return search(builders.BUILDERS["gemm_mlp"](), parts(), None, SETTINGS, journal=journal)


def outcome(result: SearchResult) -> list[tuple[object, ...]]:
    return [
        (t.candidate, t.size_bytes, t.latency, None if t.drop is None else (t.drop.value, t.drop.interval), t.steps)
        for t in result.trials
    ]


def test_what_was_measured_is_not_measured_again(tmp_path, counted) -> None:
    first = run(tmp_path / "journal.jsonl")
    assert counted[:3] == list(FEW)
    before = len(counted)
    second = run(tmp_path / "journal.jsonl", resume=True)
    assert len(counted) == before
    assert outcome(second) == outcome(first)
    kinds = [
        (t.candidate.name, t.verdict) for t in second.trials if t.verdict not in (Verdict.WINNER, Verdict.UNPROVEN)
    ]
    assert kinds == [
        (t.candidate.name, t.verdict) for t in first.trials if t.verdict not in (Verdict.WINNER, Verdict.UNPROVEN)
    ]


def test_the_measurements_of_several_outputs_are_kept_too(tmp_path, counted) -> None:
    model = builders.BUILDERS["two_outputs"]()
    here = split_parts(builders.samples_of(model, count=40), None, 0)
    first, second = (
        search(model, here, None, SETTINGS, journal=Journal(tmp_path / "journal.jsonl", ABOUT, resume=resume))
        for resume in (False, True)
    )
    assert counted.count("dynamic") == counted.count("static-minmax") == 1
    assert outcome(second) == outcome(first)


def test_a_search_that_was_cut_goes_on_after_the_last_trial(tmp_path, counted, monkeypatch) -> None:
    whole = run(tmp_path / "whole.jsonl")
    counted.clear()
    path = tmp_path / "journal.jsonl"
    real = LocalRunner.score

    def cut(self, candidate, model):
        if candidate.name == "dynamic":
            raise KeyboardInterrupt
        return real(self, candidate, model)

    monkeypatch.setattr(LocalRunner, "score", cut)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    assert counted == ["simplify", "dynamic"]
    monkeypatch.setattr(LocalRunner, "score", real)
    resumed = run(path, resume=True)
    assert counted[:4] == ["simplify", "dynamic", "dynamic", "static-minmax"]
    assert [t.candidate for t in resumed.trials] == [t.candidate for t in whole.trials]
    assert [t.drop.value for t in resumed.trials if t.drop] == [t.drop.value for t in whole.trials if t.drop]


def test_a_line_that_was_cut_is_not_read(tmp_path, counted) -> None:
    path = tmp_path / "journal.jsonl"
    run(path)
    lines = path.read_text().splitlines()
    last = next(i for i, line in enumerate(lines) if json.loads(line).get("candidate", "").startswith("static-minmax"))
    path.write_text("\n".join([*lines[: last + 1], '{"kind": "trial", "candida']))
    counted.clear()
    run(path, resume=True)
    assert "simplify" not in counted
    assert "dynamic" not in counted
    assert "static-minmax" in counted
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_another_search_is_not_resumed(tmp_path, counted) -> None:
    path = tmp_path / "journal.jsonl"
    run(path)
    with pytest.raises(UsageError, match=r"ONX110: the folder holds a search with other options.*samples changed"):
        Journal(path, {**ABOUT, "samples": "other"}, resume=True)
    with pytest.raises(UsageError, match="ONX110: there is no search to resume"):
        Journal(tmp_path / "none" / "journal.jsonl", ABOUT, resume=True)


def test_a_journal_that_is_older_than_an_option_has_its_default(tmp_path, counted) -> None:
    path = tmp_path / "journal.jsonl"
    run(path)
    newer = {**ABOUT, "setting device": "None"}
    assert Journal(path, newer, unset={"setting device": "None"}, resume=True).resumed
    with pytest.raises(UsageError, match=r"ONX110.*setting device changed"):
        Journal(path, {**ABOUT, "setting device": "board"}, unset={"setting device": "None"}, resume=True)
    with pytest.raises(UsageError, match=r"ONX110.*setting device changed"):
        Journal(path, newer, resume=True)


def test_what_ends_the_process_again_and_again_is_left_out(tmp_path, counted) -> None:
    path = tmp_path / "journal.jsonl"
    (crashing,) = (c for c in first_candidates() if c.name == "dynamic")
    journal = Journal(path, ABOUT)
    journal.begin()
    for _ in range(MOST_DEATHS):
        journal.started(crashing)
    result = run(path, resume=True)
    (trial,) = (t for t in result.trials if t.candidate.name == "dynamic")
    assert trial.verdict is Verdict.FAILED
    assert "it ended the whole process 2 times" in trial.reason
    assert "dynamic" not in counted


def test_the_user_who_ended_it_is_no_crash(tmp_path, counted) -> None:
    path = tmp_path / "journal.jsonl"
    (candidate,) = (c for c in first_candidates() if c.name == "dynamic")
    journal = Journal(path, ABOUT)
    journal.begin()
    for _ in range(MOST_DEATHS):
        journal.started(candidate)
        journal.interrupted()
    run(path, resume=True)
    assert "dynamic" in counted


def test_failures_are_remembered_with_their_reason(tmp_path, counted, monkeypatch) -> None:
    path = tmp_path / "journal.jsonl"

    def fail(self, candidate):
        counted.append(candidate.name)
        raise NativeError("ONX402", "failed", why="for a test")

    monkeypatch.setattr(LocalRunner, "build", fail)
    first = run(path)
    counted.clear()
    again = run(path, resume=True)
    assert not counted
    assert [t.reason for t in again.trials] == [t.reason for t in first.trials]
    assert all(t.verdict is Verdict.FAILED for t in again.trials)
    assert to_bytes(again.model) == to_bytes(first.model)


def test_what_a_metric_of_the_users_own_read_is_measured_again(tmp_path, counted) -> None:
    path = tmp_path / "metric.py"
    path.write_text("def spread(outputs, labels):\n    return float(abs(outputs['y']).mean())\n")
    model, metric = builders.BUILDERS["gemm_mlp"](), user_metric(f"{path}:spread")
    here = split_parts(builders.samples_of(model, count=40, labels=np.zeros(40)), None, 0)
    results = []
    for resume in (False, True):
        journal = Journal(tmp_path / "journal.jsonl", ABOUT, resume=resume)
        results.append(search(model, here, metric, SETTINGS, journal=journal))
    first, second = ([(t.candidate.name, t.drop.value) for t in r.trials if t.drop is not None] for r in results)
    assert first == second
    assert counted.count("dynamic") >= 2


def test_a_disk_that_is_full_while_resuming_leaves_the_journal_as_it_was(tmp_path, counted, monkeypatch) -> None:
    path = tmp_path / "journal.jsonl"
    run(path)
    cut = path.read_text()[:-5]
    path.write_text(cut)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(FileError):
            Journal(path, ABOUT, resume=True)
    assert path.read_text() == cut
    assert Journal(path, ABOUT, resume=True).resumed
    assert path.read_text().endswith("\n")


def test_a_candidate_that_was_chosen_comes_back_as_it_was(tmp_path) -> None:
    """Also with names that the text form of passes would have to quote."""
    passes = (Simplify(fuse=False), QuantizeStatic(exclude=("a,b", "{c=1}", '"'), percentile=99.5))
    chosen = Candidate("mixed 1, half", passes, 0.1 + 0.2)
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, ABOUT)
    journal.begin()
    assert journal.recall("mix 1", lambda: candidate_data(chosen), maybe_candidate) == chosen
    assert journal.recall("mix 2", lambda: None, maybe_candidate) is None

    def again():
        raise AssertionError("decided anew")

    resumed = Journal(path, ABOUT, resume=True)
    assert resumed.recall("mix 1", again, maybe_candidate) == chosen
    assert resumed.recall("mix 2", again, maybe_candidate) is None


@pytest.mark.parametrize(
    "value",
    [
        ["mix", "simplify", "0.5"],
        {"name": "mix", "passes": [{"name": "nonsense", "options": {}}], "predicted": 0.5},
        {"name": "mix", "passes": [{"name": "simplify", "options": {"fuse": "perhaps"}}], "predicted": 0.5},
        {"name": "mix", "passes": 5, "predicted": 0.5},
        {"name": "mix", "passes": ["simplify"], "predicted": 0.5},
        {"name": "mix", "passes": [], "predicted": "soon"},
        "mix",
    ],
)
def test_a_choice_that_was_damaged_is_made_anew(tmp_path, value) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, ABOUT)
    journal.begin()
    journal.recall("mix 1", lambda: value, lambda _: None)
    fresh = Candidate("mix", (Simplify(),), 0.5)
    resumed = Journal(path, ABOUT, resume=True)
    assert resumed.recall("mix 1", lambda: candidate_data(fresh), maybe_candidate) == fresh


@pytest.mark.parametrize("value", ["ab", [1, 2], None, {"a": 1}])
def test_names_are_a_list_of_texts(value) -> None:
    with pytest.raises(ValueError, match="not a list of names"):
        names(value)


@pytest.mark.parametrize("value", ["ab", ["0.5"], None, {"a": 1}])
def test_numbers_are_a_list_of_numbers(value) -> None:
    with pytest.raises(ValueError, match="not a list of numbers"):
        numbers(value)


@pytest.mark.parametrize(
    ("verdict", "kept"), [(Verdict.WITHIN, True), (Verdict.UNSURE, True), (Verdict.OVER_BUDGET, False)]
)
def test_models_that_are_measured_again_are_not_built_again(verdict: Verdict, kept: bool, tmp_path: Path) -> None:
    journal, candidate = Journal(tmp_path / "journal.jsonl", ABOUT), Candidate("a", (Simplify(),))
    journal.begin()
    journal.finished(Trial(candidate, verdict, ""), "", builders.gemm_mlp())
    assert (journal.model(candidate) is not None) is kept


def test_a_resumed_search_calibrates_on_as_many_samples_as_before(tmp_path, counted, monkeypatch) -> None:
    monkeypatch.setattr(optimize, "calibration_within", lambda *_: 3)
    first = run(tmp_path / "journal.jsonl")
    monkeypatch.setattr(optimize, "calibration_within", lambda *_: 5)
    before = len(counted)
    second = run(tmp_path / "journal.jsonl", resume=True)
    assert len(counted) == before
    for result in (first, second):
        static = [s for t in result.trials if (s := static_pass(t.candidate)) is not None]
        assert static
        assert {spec.samples for spec in static} == {3}
