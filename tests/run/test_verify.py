import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxopt
from onnxopt.cli.entry import main
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import sha256_of, signature_of
from onnxopt.record.golden import (
    FLOAT_TOLERANCE,
    MOST_BYTES,
    QUANTIZED_TOLERANCE,
    Golden,
    golden_bytes,
    read_golden,
    record_golden,
    tolerance_of,
)
from onnxopt.run.verify import verify
from onnxopt.samples import open_samples
from tests.builders import BUILDERS, samples_of
from tests.run import fakes

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxopt.run.recorder.search", fakes.fake_search)
        onnxopt.optimize(MODELS / "digits_lstm.onnx", "digits", out=folder)
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def _sign(folder: Path, *names: str) -> None:
    """Write the true checksums of changed files into the manifest."""
    manifest = folder / "MANIFEST.sha256"
    lines = [line.split("  ") for line in manifest.read_text().splitlines()]
    manifest.write_text(
        "".join(f"{sha256_of(folder / name) if name in names else old}  {name}\n" for old, name in lines)
    )


def _results(folder: Path) -> dict[str, str]:
    found = verify(folder)
    wrong = [part for part in (*found.files, *found.outputs) if not part.passed]
    assert found.passed == (not wrong)
    return {part.name: part.result for part in wrong}


def test_an_untouched_run_passes(run, capsys):
    assert main(["verify", str(run), "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"]
    assert {c["name"] for c in data["files"]} == {"best.onnx", "run.json", "report.html", "report.md", "golden.npz"}
    assert len(data["outputs"]) == len(onnx.load(run / "best.onnx").graph.output)
    assert len(read_golden(run / "golden.npz").runs) == 4
    assert (run / "golden.npz").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("name", ["best.onnx", "run.json", "report.html", "golden.npz"])
def test_a_changed_file_is_named(run, name, capsys):
    (run / name).write_bytes((run / name).read_bytes() + b" ")
    assert main(["verify", str(run)]) == 1
    out = capsys.readouterr().out
    assert f"{name}" in out
    assert "not compared" in out
    assert _results(run)[name].startswith("changed: SHA-256")


def test_a_missing_and_an_unlisted_file_are_named(run):
    (run / "report.md").unlink()
    manifest = run / "MANIFEST.sha256"
    manifest.write_text("".join(ln for ln in manifest.read_text().splitlines(True) if "golden" not in ln))
    assert _results(run) == {"report.md": "missing", "golden.npz": "not in MANIFEST.sha256"}


def test_a_manifest_that_leads_out_of_the_folder_fails(run):
    outside = run.parent / "outside"
    outside.write_text("x")
    with (run / "MANIFEST.sha256").open("a") as file:
        file.write(f"{sha256_of(outside)}  ../outside\n")
    assert _results(run) == {"../outside": "lies outside the folder"}


def test_a_model_that_the_record_does_not_know_fails(run):
    shutil.copy(MODELS / "digits_lstm.onnx", run / "best.onnx")
    _sign(run, "best.onnx")
    assert _results(run) == {"best.onnx": "run.json was written for another file of this name"}


def test_an_output_that_differs_is_named_with_how_much(run):
    golden = read_golden(run / "golden.npz")
    feeds, outputs = golden.runs[0]
    name, array = next(iter(outputs.items()))
    moved = array + np.float32(0.5 * np.abs(array).max())
    changed = Golden(((feeds, outputs | {name: moved}), *golden.runs[1:]), golden.optimization)
    (run / "golden.npz").write_bytes(golden_bytes(changed))
    _sign(run, "golden.npz")
    by = 0.5 * np.abs(array).max() / np.abs(moved).max()
    assert _results(run) == {name: f"differs by {by:.2g} of its range, too much"}
    assert main(["verify", str(run), "--tolerance", "1"]) == 0


def test_a_run_without_golden_outputs_says_so(run):
    (run / "golden.npz").unlink()
    manifest = run / "MANIFEST.sha256"
    manifest.write_text("".join(ln for ln in manifest.read_text().splitlines(True) if "golden" not in ln))
    found = verify(run)
    assert found.passed
    assert "ended before it wrote golden.npz" in found.document.data["notes"][0]


@pytest.mark.parametrize(("text", "code"), [(None, "ONX501"), ("", "ONX505"), ("nonsense\n", "ONX505")])
def test_a_manifest_that_cannot_be_read_is_an_error(run, capsys, text, code):
    (run / "MANIFEST.sha256").unlink()
    if text is not None:
        (run / "MANIFEST.sha256").write_text(text)
    assert main(["verify", str(run)]) == 5
    assert capsys.readouterr().err.startswith(code)


def test_golden_outputs_that_cannot_be_read_are_an_error(run, capsys):
    (run / "golden.npz").write_bytes(b"nonsense")
    _sign(run, "golden.npz")
    assert main(["verify", str(run)]) == 5
    assert capsys.readouterr().err.startswith("ONX505")


def test_golden_outputs_repeat_and_are_capped(tmp_path, monkeypatch):
    samples = open_samples("digits", signature_of(onnxopt.load(MODELS / "digits_mlp.onnx")))
    golden = record_golden(MODELS / "digits_mlp.onnx", samples, "all")
    assert golden_bytes(golden) == golden_bytes(record_golden(MODELS / "digits_mlp.onnx", samples, "all"))
    assert [len(part) for part in golden.runs[0]] == [
        1,
        len(Session(MODELS / "digits_mlp.onnx", Runtime()).output_names),
    ]
    monkeypatch.setattr("onnxopt.record.golden.MOST_BYTES", 10)
    capped = record_golden(MODELS / "digits_mlp.onnx", samples, "all")
    assert capped.runs == ()
    assert "more than 10" in capped.note
    path = tmp_path / "golden.npz"
    path.write_bytes(golden_bytes(capped))
    assert read_golden(path).note == capped.note


def test_outputs_that_npz_does_not_hold_are_left_out(tmp_path):
    model = BUILDERS["zipmap"]()
    path = tmp_path / "zipmap.onnx"
    onnxopt.save(model, path)
    golden = record_golden(path, samples_of(model), "all")
    assert golden.runs == ()
    assert "type" in golden.note


def test_quantized_models_get_the_wider_tolerance():
    assert tolerance_of(BUILDERS["gemm_mlp"]()) == FLOAT_TOLERANCE
    assert tolerance_of(BUILDERS["already_quantized"]()) == QUANTIZED_TOLERANCE


def test_a_search_that_has_not_ended_is_to_go_on(run, capsys):
    (run / "MANIFEST.sha256").unlink()
    assert main(["verify", str(run)]) == 5
    assert f"the search has not ended. Continue with: onnxopt resume {run}" in capsys.readouterr().err


def test_a_link_that_a_manifest_names_is_not_followed(tmp_path):
    from onnxopt.run.verify import check_files

    (tmp_path / "secret").write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "run.json").write_text("secret")
    (run / "trials").symlink_to(tmp_path / "others")
    (run / "run.json").symlink_to(tmp_path / "secret")
    names = ("run.json", "trials/run.json", str(tmp_path / "secret"))
    # The true checksum: who read the files would call them whole.
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    (run / "MANIFEST.sha256").write_text("".join(f"{digest}  {name}\n" for name in names))
    link = "is a link; links are not followed"
    assert [part.result for part in check_files(run)] == [link, link, "lies outside the folder"]
