"""--overwrite replaces the result of the same kind, and nothing else; a full disk leaves what was there."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import FileError
from onnxopt.model_file.writable import refuse_inputs, refuse_output_file, refuse_unwritable
from onnxopt.run.folder import RunFolder
from onnxopt.search.journal.journal import Journal


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    np.savez(folder / "a.npz", x=np.zeros((4, 64), np.float32))
    return folder


@pytest.mark.parametrize("name", ["samples/a.npz", "config.toml", "labels.csv", "run/best.onnx", "run/run.json"])
def test_a_file_of_another_kind_stays(cli, mlp, data, tmp_path, name):
    (tmp_path / "run").mkdir()
    for path in ("config.toml", "labels.csv", "run/best.onnx", "run/run.json"):
        (tmp_path / path).write_text("")
    before = (tmp_path / name).read_bytes()
    ended = cli("quantize", mlp, "--data", data, "-o", tmp_path / name, "--overwrite", "-q")
    assert (ended.code, ended.err.count("\n")) == (5, 1)
    assert ended.err.startswith("ONX504")
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("name", [250 * "x", "é" * 125])
def test_a_name_may_be_as_long_as_a_file_system_takes_it(cli, mlp, tmp_path, name):
    out = tmp_path / f"{name[: len(name) - (5 if name[0] == 'x' else 3)]}.onnx"
    assert cli("quantize", mlp, "--mode", "dynamic", "-o", out).code == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("name", "why"), [(b"m\xff.onnx", "not UTF-8"), (246 * b"x" + b".onnx", "251 bytes"), (b"\xff/m.onnx", "not UTF-8")]
)
def test_a_name_that_no_model_can_be_loaded_from_is_refused_before_any_work(cli, mlp, tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    folder = Path(os.fsdecode(b"\xff"))
    folder.mkdir()
    ended = cli("quantize", mlp, "--mode", "dynamic", "-o", os.fsdecode(name))
    assert (ended.code, ended.err.count("\n")) == (5, 1)
    assert ended.err.startswith("ONX503: cannot write the output")
    assert why in ended.err
    assert list(Path().iterdir()) == [folder]
    assert not any(folder.iterdir())


def test_a_folder_of_a_run_that_no_model_can_be_loaded_from_is_refused(tmp_path):
    with pytest.raises(FileError, match="not UTF-8"):
        refuse_unwritable(tmp_path / os.fsdecode(b"\xff"))


def test_a_model_beside_the_samples_may_be_replaced(tmp_path):
    data, out = tmp_path, tmp_path / "m.onnx"
    out.write_bytes(b"")
    refuse_output_file(out, overwrite=True, source=None, read=[data])
    (tmp_path / "sub").mkdir()
    image = tmp_path / "sub" / "a.png"
    image.write_bytes(b"")
    with pytest.raises(FileError, match="ONX504"):
        refuse_inputs([image], None, [data])


def test_the_configuration_stays(cli, mlp, resnet, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("threads = 1\n")
    ended = cli("init", mlp, "-o", config, "--config", config, "--overwrite")
    assert ended.code == 5
    assert "ONX504" in ended.err
    assert config.read_text() == "threads = 1\n"


def test_a_folder_that_only_has_our_names_is_no_run(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(FileError, match=r"ONX502.*report\.md would be replaced"):
        RunFolder(tmp_path, overwrite=True).refuse(None)
    (tmp_path / "run.json").write_text("{}")
    RunFolder(tmp_path, overwrite=True).refuse(None)


def test_models_that_no_journal_names_stay(tmp_path):
    mine = tmp_path / "trials" / f"{'a' * 64}.onnx"
    theirs = tmp_path / "trials" / f"{'b' * 64}.onnx"
    mine.parent.mkdir()
    mine.write_bytes(b"")
    theirs.write_bytes(b"")
    (tmp_path / "journal.jsonl").write_text(f'{{"kind": "trial", "candidate": "c", "model": "{"b" * 64}"}}\n')
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.begin()
    journal.drop_models()
    assert mine.exists()
    assert not theirs.exists()


def _full_disk(monkeypatch):
    """Have every file that is flushed to the disk, or written by NumPy, find the disk full."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(np, "savez_compressed", full)
    monkeypatch.setattr(shutil, "copyfile", full)


def _everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _dying(monkeypatch):
    """Have the command end where a file takes its place: what a kill at the worst moment leaves."""

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", dies)
    monkeypatch.setattr(Path, "rename", dies)


@pytest.mark.parametrize(("ruin", "code"), [(_full_disk, 5), (_dying, 130)])
@pytest.mark.parametrize("command", ["quantize", "apply", "diagnose", "bundle", "init", "sensitivity"])
def test_what_was_there_stays_on_a_full_disk_and_after_a_kill(cli, mlp, tmp_path, monkeypatch, command, ruin, code):
    work = tmp_path / "work"
    work.mkdir()
    small = work / "small.onnx"
    shutil.copy(mlp, small)
    (work / "old.toml").write_text("old")
    (work / "old.html").write_text("old")
    words = {
        "quantize": [mlp, "--mode", "dynamic", "-o", small, "--overwrite"],
        "apply": [mlp, "--passes", "simplify", "-o", small, "--overwrite"],
        "diagnose": [mlp, small, "-d", "digits", "--limit", 8, "-o", work / "old.toml", "--overwrite"],
        "bundle": [mlp, small, "-d", "digits", "-o", work / "kit"],
        "init": [mlp, "-o", work / "old.toml", "--overwrite"],
        "sensitivity": [mlp, "-d", "digits", "--limit", 8, "--plot", work / "old.html", "--overwrite"],
    }[command]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = _everything(work)
    ruin(monkeypatch)
    ended = cli(command, *words, "-q")
    assert (ended.code, ended.err.count("\n")) == (code, 1), ended.err
    assert ended.err.startswith("ONX503" if code == 5 else "interrupted")
    assert _everything(work) == before
    assert not (work / "kit").exists()
