"""A full disk is the disk's fault wherever it is met, and no other fault is taken for it."""

import errno

import pytest

from onnxopt.cli import entry


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
