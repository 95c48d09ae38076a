import errno
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from filelock import FileLock

import onnxopt
from onnxopt.cli.entry import main
from onnxopt.errors import FileError, NativeError
from onnxopt.model_file import load, sha256_of
from onnxopt.record.run import RunRecord
from onnxopt.run.folder import FASTEST, JOURNAL, OURS, SMALLEST
from onnxopt.search.trial import Candidate
from tests.run import fakes

MODEL = Path(__file__).parents[2] / "models" / "digits_lstm.onnx"


@pytest.fixture
def searching(monkeypatch):
    def use(search):
        monkeypatch.setattr("onnxopt.run.recorder.search", search)

    use(fakes.fake_search)
    return use


def _record(folder: Path) -> RunRecord:
    return RunRecord.model_validate_json((folder / "run.json").read_text())


def _whole(folder: Path) -> bool:
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "MANIFEST.sha256"], cwd=folder, capture_output=True, check=False
    )
    return done.returncode == 0


def test_a_run_leaves_a_whole_folder(tmp_path, searching):
    run = onnxopt.optimize(MODEL, "digits", max_drop="1pp", out=tmp_path / "run", command="onnxopt optimize ...")
    assert run.won
    large, others = {name for name in OURS if name.endswith(".data")}, {SMALLEST, FASTEST, JOURNAL}
    assert sorted(p.name for p in run.folder.iterdir()) == sorted(set(OURS) - large - others)
    assert _whole(run.folder)
    assert _record(run.folder) == run.record
    schema = RunRecord.model_json_schema()
    jsonschema.validate(json.loads((run.folder / "run.json").read_text()), schema)
    assert load(run.best).metadata_props["onnxopt.passes"] == "quantize-dynamic"
    parts = run.record.data
    assert parts.calibration.samples + parts.search.samples + parts.holdout.samples == 797
    assert run.record.confidence == 0.97


def test_a_warning_reaches_record_terminal_and_page(tmp_path, searching, monkeypatch):
    said = "Warning: a score like that of a guess."
    score = fakes.score
    monkeypatch.setattr(fakes, "score", lambda value: replace(score(value), warning=said))
    run = onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    assert _record(run.folder).warning == run.record.warning == said
    assert said in " ".join(str(run).split())
    assert said in (run.folder / "report.html").read_text()


def test_the_repro_line_makes_the_same_bytes(tmp_path, searching, monkeypatch, capsys):
    run = onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    assert run.record.repro is not None
    program, *arguments = shlex.split(run.record.repro)
    monkeypatch.chdir(tmp_path)
    assert program == "onnxopt"
    assert main(arguments) == 0
    assert (tmp_path / "best.onnx").read_bytes() == run.best.read_bytes()


def test_when_nothing_wins_the_original_is_shipped_untouched(tmp_path, searching):
    searching(fakes.losing_search)
    run = onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    assert not run.won
    assert run.best.read_bytes() == MODEL.read_bytes()
    assert run.record.status == "kept-original"
    assert run.record.reason == "no candidate is faster"
    assert run.record.winner is None
    assert run.record.repro is None
    assert _whole(run.folder)


@pytest.mark.parametrize(
    ("search", "error", "status"),
    [(fakes.interrupted_search, KeyboardInterrupt, "interrupted"), (fakes.failing_search, RuntimeError, "failed")],
)
def test_what_was_found_survives(tmp_path, searching, search, error, status):
    searching(search)
    with pytest.raises(error):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    record = _record(tmp_path / "run")
    assert record.status == status
    assert record.winner == "dynamic"
    assert [t.name for t in record.trials] == ["simplify", "dynamic"]
    assert record.confidence is None
    assert record.metric == "top1"
    assert load(tmp_path / "run" / "best.onnx").metadata_props["onnxopt.passes"] == "quantize-dynamic"
    assert _whole(tmp_path / "run")


def test_a_failure_before_the_first_measurement_leaves_nothing(tmp_path, searching):
    searching(fakes.early_failing_search)
    with pytest.raises(RuntimeError):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_overwriting_replaces_our_files_only(tmp_path, searching):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="ONX502"):
        onnxopt.optimize(MODEL, "digits", out=out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]
    onnxopt.optimize(MODEL, "digits", out=out, overwrite=True)
    searching(fakes.losing_search)
    run = onnxopt.optimize(MODEL, "digits", out=out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert run.best.read_bytes() == MODEL.read_bytes()
    assert _whole(out)


def test_a_run_never_replaces_the_model_it_starts_from(tmp_path, searching):
    run = onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    before = run.best.read_bytes()
    with pytest.raises(FileError, match="ONX504"):
        onnxopt.optimize(run.best, "digits", out=run.folder, overwrite=True)
    assert run.best.read_bytes() == before


def test_a_model_and_samples_in_memory(tmp_path, searching):
    from onnxopt.model_file import signature_of
    from onnxopt.samples import open_samples

    model = load(MODEL)
    samples = open_samples("digits", signature_of(model))
    run = onnxopt.optimize(model, samples, out=tmp_path / "run")
    assert run.won
    assert run.record.model.path == ""
    assert run.record.repro is None


def test_a_real_search(tmp_path):
    model = MODEL.with_name("digits_resnet.onnx")
    run = onnxopt.optimize(
        model, "digits", calibration="digits:train", max_drop="2pp", goal="size", latency_s=0.05, out=tmp_path / "run"
    )
    assert _whole(run.folder)
    jsonschema.validate(json.loads((run.folder / "run.json").read_text()), RunRecord.model_json_schema())
    if run.won:
        rebuilt = tmp_path / "again.onnx"
        arguments = shlex.split(run.record.repro or "")[1:]
        arguments[arguments.index("-o") + 1] = str(rebuilt)
        assert main(arguments) == 0
        assert rebuilt.read_bytes() == run.best.read_bytes()
    else:
        assert run.best.read_bytes() == model.read_bytes()


def test_a_full_disk_is_reported_as_such(tmp_path, searching, monkeypatch):
    def full(path: Path, *_: object, **__: object) -> None:
        raise FileError("ONX503", "cannot write the output", where=str(path), why="No space left on device")

    monkeypatch.setattr("onnxopt.model_file.atomic_write_bytes", full)
    with pytest.raises(FileError, match=r"ONX503.*No space left"):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    assert not (tmp_path / "run" / "best.onnx").exists()
    assert _record(tmp_path / "run").status == "failed"
    assert _whole(tmp_path / "run")


def test_who_interrupts_the_explanation_keeps_what_was_proved(tmp_path, searching, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxopt.run.recorder.analyze", interrupted)
    with pytest.raises(KeyboardInterrupt):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    record = _record(tmp_path / "run")
    assert record.status == "interrupted"
    assert "the proven winner; only the analysis is missing" in record.reason
    assert record.winner == "dynamic"
    assert [proof.accepted for proof in record.proofs] == [True]
    assert record.best[0].sha256 == sha256_of(tmp_path / "run" / "best.onnx")
    assert _whole(tmp_path / "run")


def test_errors_that_end_a_search_are_blamed_on_no_candidate(tmp_path, searching):
    def lost(model, parts, metric, settings, observer, size_bytes, stamp, journal, **further):
        fakes.fake_search(model, parts, metric, settings, observer, size_bytes, stamp)
        journal.begin()
        journal.started(Candidate("dynamic", ()))
        raise NativeError("ONX407", "the connection to the cluster was lost")

    searching(lost)
    with pytest.raises(NativeError, match="ONX407"):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    events = [json.loads(line)["kind"] for line in (tmp_path / "run" / JOURNAL).read_text().splitlines()]
    assert events[-2:] == ["started", "interrupted"]


def test_a_folder_with_the_lock_of_another_user_is_refused(tmp_path, searching, monkeypatch):
    onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()

    def denied(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", denied)
    with pytest.raises(FileError, match="the run folder cannot be locked"):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_searched_in(error, tmp_path, searching, monkeypatch):
    def missing(self):
        raise error

    monkeypatch.setattr(FileLock, "acquire", missing)
    assert _whole(onnxopt.optimize(MODEL, "digits", out=tmp_path / "run").folder)


def test_two_searches_do_not_share_a_folder(tmp_path, searching):
    def meanwhile(*given, **named):
        with pytest.raises(FileError, match="ONX506"):
            onnxopt.optimize(MODEL, "digits", out=tmp_path / "run", overwrite=True)
        return fakes.fake_search(*given, **named)

    onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    searching(meanwhile)
    run = onnxopt.optimize(MODEL, "digits", out=tmp_path / "run", overwrite=True)
    assert _whole(run.folder)
    searching(fakes.fake_search)
    onnxopt.optimize(MODEL, "digits", out=tmp_path / "run", overwrite=True)
