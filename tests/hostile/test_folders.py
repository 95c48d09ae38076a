"""Data and run folders of anybody: every fault ends in one line and an exit code, and nothing outside is opened."""

import base64
import json
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from onnxopt.errors import FileError, UsageError
from onnxopt.measure.device.ssh import Board
from tests.hostile.faults import data_faults, journal_faults, run_faults, valid_data
from tests.hostile.valid import MODEL, resume, valid_journal, valid_run

EACH = 12
"""Faults of each kind; bench/fuzz_folders.py makes more."""

pytest.importorskip("sklearn")
_OPENED: list[str] = []
_WATCHED: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    # A hook stays for the whole process; it only looks while a folder is named.
    if _WATCHED and event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(_WATCHED[0]):
        _OPENED.append(arguments[0])


sys.addaudithook(_watch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return valid_run(tmp_path_factory.mktemp("valid") / "run")


@pytest.fixture
def canary(tmp_path):
    """Name a folder beside the data that nobody may open a file of."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret.npz").write_bytes(b"secret")
    _OPENED.clear()
    _WATCHED[:] = [str(folder)]
    yield folder
    _WATCHED.clear()


def _end_in_order(cli, faults, tmp_path, recwarn):
    wrong = []
    for number, fault in enumerate(faults):
        folder = tmp_path / str(number)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            ended = cli(*fault.place(folder))
        if ended.code not in range(6) or ended.err.count("\n") > 1 or "Traceback" in ended.err:
            wrong.append(f"{fault.name}: {ended.code} {ended.err[:300]}")
    assert not wrong
    assert not [str(warning.message) for warning in recwarn.list]


@pytest.mark.parametrize("name", sorted(valid_data()))
def test_faults_of_data_end_in_order(cli, tmp_path, recwarn, canary, name):
    faults = list(data_faults(MODEL, {name: valid_data()[name]}, EACH, 0))
    _end_in_order(cli, faults, tmp_path, recwarn)
    assert not _OPENED


def test_faults_of_run_folders_end_in_order(cli, run, tmp_path, recwarn, canary):
    _end_in_order(cli, run_faults(run, EACH, 0), tmp_path, recwarn)
    assert not _OPENED


def test_valid_files_are_read(cli, run, tmp_path):
    for name, data in valid_data().items():
        if name != "labels.json":  # boxes, which this model gives none of
            (fault,) = list(data_faults(MODEL, {name: data}, 1, 0))
            folder = tmp_path / name.replace("/", "_")
            folder.mkdir()
            words = fault.place(folder)
            (folder / name).write_bytes(data)
            ended = cli(*words)
            # Without labels there is nothing to evaluate; all else about the file is right then.
            assert ended.code == 0 or "ONX208" in ended.err, name
    for fault in run_faults(run, 1, 0):
        folder = tmp_path / fault.name.replace(" ", "_")
        folder.mkdir()
        words = fault.place(folder)
        for file, data in run.items():
            (folder / file).write_bytes(data)
        if words[0] != "resume":
            assert cli(*words).code == (1 if words[0] in ("verify", "audit") else 0), fault.name


def test_faults_of_journals_are_measured_again_or_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    valid, read = valid_journal(path), 0
    for _, data in journal_faults(valid, 60, 0):
        path.write_bytes(data)
        with suppress(UsageError, FileError):
            resume(path)
            read += 1
    assert read


def test_rows_whose_header_never_ends_are_measured_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    lines = [json.loads(line) for line in valid_journal(path).decode().splitlines()]
    damaged = 0
    for line in lines:
        if line.get("score"):
            data = base64.b64decode(line["score"]["rows"])
            line["score"]["rows"] = base64.b64encode(data.replace(b"'shape': (", b"'shape':((")).decode()
            damaged += b"'shape': (" in data
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    resume(path)
    assert damaged


@pytest.mark.parametrize("best", [b"", b"damaged", None])
def test_a_device_result_is_not_added_to_a_run_whose_model_is_damaged(cli, run, tmp_path, best):
    for name, data in run.items():
        (tmp_path / name).write_bytes(data)
    words = ("device-result", tmp_path / "result.json", "--run", tmp_path)
    assert cli(*words).code == 0
    (tmp_path / "best.onnx").unlink() if best is None else (tmp_path / "best.onnx").write_bytes(best)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ended = cli(*words)
    assert (ended.code, ended.err[:6], ended.err.count("\n")) == (5, "ONX505", 1), ended.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("field", "value"), [("size_bytes", 0), ("size_bytes", -1)])
def test_a_model_of_no_size_is_refused_in_words(cli, run, tmp_path, field, value):
    told = json.loads(run["run.json"])
    told["trials"][0][field] = value
    (tmp_path / "run.json").write_text(json.dumps(told))
    ended = cli("report", tmp_path)
    assert (ended.code, ended.err.count("\n")) == (5, 1), ended.err
    assert f"a model of {value} bytes" in ended.err


@pytest.mark.parametrize(
    "text",
    ["ssh://[", "ssh://[::1", "ssh://-oProxyCommand=x", "ssh://h:99999", "ssh://h:x", "ssh://%2doPC@", "ssh://", "h",
     "ssh://\x00", "ssh://-u@-h", "ssh://h?python=a&b=c", "ssh://h/path", "ssh://]h", "ssh://[h]", "ssh://a b"],
)  # fmt: skip
def test_an_address_of_a_board_is_read_or_refused(text):
    with suppress(UsageError):
        board = Board.parse(text)
        assert not board.host.startswith("-")
        assert board.host.isprintable()


def test_the_canary_would_sing(canary):
    Path(canary / "secret.npz").read_bytes()
    assert _OPENED
