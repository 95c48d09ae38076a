"""The claims of a run, measured again: what agrees, what differs, what cannot be compared."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import onnxopt
from onnxopt.cli.entry import main
from onnxopt.document.blocks import Text
from onnxopt.errors import FileError, UsageError
from onnxopt.measure.judge import Judge
from onnxopt.model_file import sha256_of
from onnxopt.record.recording import environment_record
from onnxopt.run import claims
from onnxopt.run.claims import AuditedRun, audit_run
from onnxopt.run.job import Job
from onnxopt.samples import Samples
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.search.workers.runner import judge_of
from tests import builders
from tests.run import fakes

MODEL = Path(__file__).parents[2] / "models" / "digits_lstm.onnx"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that claims a drop of 0.3 points on 200 samples, and a speed-up of 2.5."""
    folder = tmp_path_factory.mktemp("claimed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxopt.run.recorder.search", fakes.fake_search)
        onnxopt.optimize(MODEL, "digits", out=folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], None]:
    """Return a setter of the speed-up that is measured."""

    def measured(speedup: float | None) -> None:
        found = {"baseline": fakes.latency(1.0), "best": fakes.latency(0.5, speedup)}
        monkeypatch.setattr(claims, "measure_latency", lambda *_, **__: found)

    measured(2.5)
    return measured


def record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of a run, with its checksum."""
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))
    manifest = folder / "MANIFEST.sha256"
    lines = [line.split("  ") for line in manifest.read_text().splitlines()]
    new = sha256_of(folder / "run.json")
    manifest.write_text("".join(f"{new if name == 'run.json' else old}  {name}\n" for old, name in lines))


def verdicts(found: AuditedRun) -> dict[str, bool | None]:
    assert found.passed == (False not in {claim.holds for claim in found.claims})
    return {claim.name: claim.holds for claim in found.claims}


AGREES = dict.fromkeys(("files", "outputs", "baseline", "hold-out samples", "drop of top1, points", "speed-up"), True)


def test_a_run_that_is_as_it_claims_agrees(run: Path, clock: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run), "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {claim["name"]: claim["holds"] for claim in data["claims"]} == AGREES
    assert verdicts(audit_run(run / "run.json")) == AGREES


def test_a_baseline_that_scores_like_a_guess_is_warned_of(
    run: Path, clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines() -> list[str]:
        return [line for block in audit_run(run).document.blocks if isinstance(block, Text) for line in block.lines]

    assert not any("guess" in line for line in lines())
    real = claims.judge_of

    def like_a_guess(*given: Any, **more: Any) -> Judge:
        judge = real(*given, **more)
        score = replace(judge.baseline(), warning="The baseline scores like a guess.")
        monkeypatch.setattr(type(judge), "baseline", lambda _: score)
        return judge

    monkeypatch.setattr(claims, "judge_of", like_a_guess)
    assert "The baseline scores like a guess." in lines()


def test_the_drop_is_measured_on_as_many_samples_as_the_proof_used(
    run: Path, clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = list[int]()

    def judge(model: ir.Model, samples: Samples, *more: Any, **options: Any) -> Judge:
        counts.append(len(samples))
        return judge_of(model, samples, *more, **options)

    monkeypatch.setattr(claims, "judge_of", judge)
    audit_run(run)
    assert counts == [200]


@pytest.mark.parametrize(("speedup", "holds"), [(1.2, False), (2.52, True), (None, None)])
def test_a_speed_up_holds_if_the_intervals_overlap(
    run: Path, clock: Callable[[float | None], None], speedup: float | None, holds: bool | None
) -> None:
    clock(speedup)
    assert verdicts(audit_run(run)) == AGREES | {"speed-up": holds}
    assert main(["audit", str(run)]) == (holds is False)


def test_speed_on_another_processor_or_a_device_is_no_contradiction(
    run: Path, clock: Callable[[float | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(1.2)
    there = environment_record().model_copy(update={"cpu": "another"})
    with monkeypatch.context() as patch:
        patch.setattr(claims, "environment_record", lambda: there)
        assert verdicts(audit_run(run)) == AGREES | {"speed-up": None}
        clock(2.5)
        assert verdicts(audit_run(run)) == AGREES
    clock(1.2)

    def on_a_device(content: dict[str, Any]) -> None:
        content["settings"]["device"] = "ssh://board"
        content["options"]["again"] = ["device"]

    record(run, on_a_device)
    assert verdicts(audit_run(run)) == AGREES | {"speed-up": None}


def test_a_drop_that_the_samples_do_not_have_differs(run: Path, clock: object) -> None:
    def better(content: dict[str, Any]) -> None:
        interval = {"low": -0.4, "value": -0.3, "high": -0.2, "level": 0.95}
        content["proofs"][0]["drop"] |= {"value": -0.3, "interval": interval}

    record(run, better)
    assert verdicts(audit_run(run)) == AGREES | {"drop of top1, points": False}


def test_ends_of_intervals_that_are_not_finite_are_open(run: Path, clock: object) -> None:
    def unbounded(content: dict[str, Any]) -> None:
        content["proofs"][0]["drop"]["interval"] = {"low": -0.4, "value": None, "high": None, "level": 0.95}

    record(run, unbounded)
    assert verdicts(audit_run(run)) == AGREES


def test_a_changed_file_ends_the_audit_before_anything_runs(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims, "prepare", lambda *_, **__: pytest.fail("it was measured"))
    (run / "best.onnx").write_bytes(MODEL.read_bytes())
    assert main(["audit", str(run)]) == 1
    out = capsys.readouterr().out
    assert "best.onnx: changed" in " ".join(out.split())
    assert "were not measured" in out


def test_another_baseline_and_other_samples_are_named(run: Path, clock: object, tmp_path: Path) -> None:
    model = onnx.load(MODEL)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.0001), weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    assert verdicts(audit_run(run, baseline=tmp_path / "other.onnx")) == AGREES | {"baseline": False}
    given = audit_run(run, "digits:train")
    assert verdicts(given) == AGREES | {"hold-out samples": None}
    record(run, lambda content: content["data"]["holdout"].update(fingerprint="0" * 64))
    assert verdicts(audit_run(run)) == AGREES | {"hold-out samples": False}


def test_a_run_that_kept_its_baseline_claims_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.losing_search)
    kept = onnxopt.optimize(MODEL, "digits", out=tmp_path / "kept")
    found = audit_run(kept)
    assert verdicts(found) == {"files": True, "outputs": True}
    assert "it claims no drop" in str(found.document.blocks)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.update(options=None), "no options of the search"),
        (lambda content: content["options"].update(again=["metric"]), "no code of a run folder is executed"),
        (lambda content: content["options"].update(in_memory=["data"]), "data cannot come from a run folder"),
    ],
)
def test_what_a_folder_does_not_say_is_asked_for(run: Path, change: Callable[[dict[str, Any]], None], why: str) -> None:
    record(run, change)
    with pytest.raises(UsageError) as caught:
        audit_run(run)
    assert caught.value.code == "ONX110"
    assert why in str(caught.value)
    assert "onnxopt resume" not in str(caught.value)


@pytest.mark.parametrize(
    "words", [["--max-drop", "1pp"], ["--threads", "2"], ["--limit", "9"], ["--task", "signal"], ["--pad", "3"]]
)
def test_other_terms_than_the_recorded_ones_are_refused(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(run), *words]) == 2
    assert "ONX109" in capsys.readouterr().err


def test_a_search_that_has_not_ended_is_refused(run: Path) -> None:
    (run / "MANIFEST.sha256").unlink()
    with pytest.raises(FileError, match="ONX501"):
        audit_run(run)


def test_the_speed_up_is_measured_at_the_recorded_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = builders.BUILDERS["transformer_17"](), set[int]()

    def measured(models: object, inputs: tuple[Any, ...], *_: object, **__: object) -> dict[str, object]:
        seen.update(np.shape(feeds["x"])[1] for feeds in inputs)
        return {"best": fakes.latency(1.0)}

    monkeypatch.setattr(claims, "measure_latency", measured)
    parts = split_parts(builders.samples_of(model, count=40), None, seed=0)
    claims._timed(Job(model, None, parts, None, Settings(sequence="6:0.5,2:0.5")), model)
    assert seen == {6, 2}
