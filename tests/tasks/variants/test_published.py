"""A published folder with one model is searched, and written again with the winner."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import onnxopt
from onnxopt.errors import FileError, UsageError
from onnxopt.model_file import load, memory, save
from onnxopt.options.reading import ReadOptions
from onnxopt.search.trial import Verdict
from onnxopt.tasks.variants import published
from onnxopt.tasks.variants.published import only_model, optimize_folder, with_tokenizer, write_whole
from tests.cli.conftest import cli
from tests.run import fakes
from tests.tasks.variants.published import ROWS, encoder, samples

__all__ = ["cli"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder as sentence-transformers writes it, with files of other types."""
    folder = tmp_path / "mini"
    (folder / "onnx").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    save(encoder(), folder / "onnx" / "model.onnx")
    save(encoder(), folder / "onnx" / "model_q4.onnx")
    (folder / "tokenizer.json").write_text(json.dumps({"vocab": [f"w{i}" for i in range(ROWS)]}))
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every search end with a winner at once."""
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.fake_search)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def texts(folder: Path) -> Path:
    lines = [json.dumps({"text": " ".join(f"w{i}" for i in row)}) for row in samples()["input_ids"]]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "texts.jsonl"


@pytest.mark.usefixtures("found")
def test_the_winner_is_under_the_old_name_with_the_side_files(source: Path, tmp_path: Path) -> None:
    before = files_of(source)
    made = optimize_folder(source, texts(tmp_path), out=tmp_path / "run")
    assert made.run.won
    assert made.out == tmp_path / "run" / "model"
    assert files_of(made.out) == {"onnx/model.onnx", "tokenizer.json", "1_Pooling/config.json"}
    assert (made.out / "onnx" / "model.onnx").read_bytes() == (tmp_path / "run" / "best.onnx").read_bytes()
    assert (made.out / "onnx" / "model.onnx").read_bytes() != (source / "onnx" / "model.onnx").read_bytes()
    onnxruntime.InferenceSession(str(made.out / "onnx" / "model.onnx")).run(None, samples())
    assert files_of(source) == before
    assert onnxopt.verify(made.run).passed


def test_without_a_winner_there_is_no_folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(model, *rest, **options):
        won = fakes.fake_search(model, *rest, **options)
        trials = tuple(replace(t, verdict=Verdict.SLOWER) if t.verdict is Verdict.WINNER else t for t in won.trials)
        return replace(won, winner=None, model=model, trials=trials, proofs=())

    monkeypatch.setattr("onnxopt.run.recorder.search", lost)
    made = optimize_folder(source, samples(), out=tmp_path / "run")
    assert made.out is None
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.usefixtures("found")
def test_the_command_writes_the_folder(source: Path, tmp_path: Path, cli) -> None:
    ended = cli("optimize", source, "--data", texts(tmp_path), "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "onnx/model.onnx" in files_of(tmp_path / "run" / "model")
    assert f"Written: {tmp_path / 'run' / 'model'}" in ended.err
    again = cli("optimize", source, "--data", texts(tmp_path), "--out", tmp_path / "run", "--overwrite")
    assert (again.code, "ONX502" in again.err) == (5, True)


def test_an_interrupted_search_of_a_folder_names_the_command_that_writes_the_folder(
    source: Path, tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["optimize", str(source), "--data", str(texts(tmp_path)), "--out", str(tmp_path / "run")]
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.cut_search)
    monkeypatch.setattr("sys.argv", ["onnxopt", *words, "--overwrite"])
    ended = cli(*words, "--overwrite")
    assert ended.code == 130
    again = ended.err.strip().partition("to continue: ")[2].split()
    assert again == ["onnxopt", *words, "--resume"]
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.fake_search)
    assert cli(*again[1:]).code == 0
    assert "onnx/model.onnx" in files_of(tmp_path / "run" / "model")


def test_a_folder_inside_the_source_does_not_copy_itself(source: Path) -> None:
    run = source / "run"
    run.mkdir()
    save(encoder(), run / "best.onnx")
    (run / "run.json").write_text("{}")
    assert "run/run.json" not in files_of(write_whole(run, source, source / "onnx" / "model.onnx"))


def test_external_data_keeps_its_name(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 1000)
    model = source / "onnx" / "model.onnx"
    save(encoder(), model, overwrite=True, data_name="model.onnx_data")
    (tmp_path / "run").mkdir()
    save(encoder(), tmp_path / "run" / "best.onnx")
    out = write_whole(tmp_path / "run", source, model)
    assert {"onnx/model.onnx", "onnx/model.onnx_data"} <= files_of(out)
    load(out / "onnx" / "model.onnx")


def test_a_full_disk_leaves_no_part_of_the_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    save(encoder(), tmp_path / "run" / "best.onnx")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(published.shutil, "copyfile", full)
    with pytest.raises(FileError, match=r"ONX503.*No space left"):
        write_whole(tmp_path / "run", source, source / "onnx" / "model.onnx")
    assert files_of(tmp_path / "run") == {"best.onnx"}


def test_several_models_are_refused_with_their_names(source: Path) -> None:
    save(encoder(), source / "onnx" / "decoder_model.onnx")
    with pytest.raises(UsageError, match=r"ONX112.*onnx/decoder_model\.onnx, onnx/model\.onnx.*quantize FOLDER"):
        optimize_folder(source, samples())
    for path in (source / "onnx").iterdir():
        path.unlink()
    save(encoder(), source / "onnx" / "model_q4.onnx")
    with pytest.raises(FileError, match=r"ONX501.*float32"):
        only_model(source)


def test_the_tokenizer_of_the_folder_reads_texts_unless_another_is_named(source: Path) -> None:
    assert with_tokenizer(source, None).vocab == str(source / "tokenizer.json")
    assert with_tokenizer(source, ReadOptions(vocab="mine.json", pad=3)) == ReadOptions(vocab="mine.json", pad=3)
    (source / "tokenizer.json").unlink()
    assert with_tokenizer(source, None) == ReadOptions()


@pytest.mark.slow
def test_a_real_search_ends_with_a_folder_that_answers_alike(source: Path, tmp_path: Path) -> None:
    made = optimize_folder(source, texts(tmp_path), out=tmp_path / "run", max_drop="20pp", latency_s=0.05)
    place = made.out or source
    outputs = [
        onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx")).run(None, samples())[0]
        for folder in (source, place)
    ]
    assert np.mean(outputs[0].argmax(1) == outputs[1].argmax(1)) > 0.8
