"""A full disk is the disk's fault wherever it is met, and no other fault is taken for it."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from onnxopt.cli import entry

MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"


@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 5, "ONX503"),
        (OSError(errno.EROFS, "Read-only file system"), 5, "ONX503"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), 5, "ONX503"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), 70, "ONX901"),
    ],
)
def test_no_room_to_write_is_an_error_of_the_disk(error, code, start, monkeypatch, capsys) -> None:
    def fails(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(entry, "_run", fails)
    assert entry.main(["check", "m.onnx"]) == code
    said = capsys.readouterr().err
    assert said.startswith(start)
    assert said.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the size of files cannot be limited")
def test_a_runtime_that_finds_no_room_is_no_bad_model(tmp_path: Path) -> None:
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    words = [sys.executable, "-m", "onnxopt", "export", str(MODEL), "-o", str(tmp_path / "m.ort")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert ended.returncode == 5
    assert ended.stderr.startswith("ONX503: there is no room to write a file")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="the size of files cannot be limited")
def test_the_runtimes_optimized_graph_finds_no_room(tmp_path: Path) -> None:
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    out = tmp_path / "m.onnx"
    words = [sys.executable, "-m", "onnxopt", "apply", str(MODEL), "--passes", "simplify", "-o", str(out)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert ended.returncode == 5
    assert ended.stderr.startswith("ONX503: there is no room to write a file")
    assert not list(tmp_path.iterdir())
