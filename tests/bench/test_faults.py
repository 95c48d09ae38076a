"""The records of faults go on after a stop, and the looks of kills.py see what is half-written."""

import re
from pathlib import Path
from types import MappingProxyType

import pytest

from bench import writers
from bench.fault_commands import DATA_READERS, OF_MODEL, OTHERS, RUN_READERS, RUNS
from bench.fault_counts import Counts, read, write
from bench.fault_grid import by_turns
from bench.fault_sets import Odd
from onnxopt.catalog import available_passes
from onnxopt.cli.app import app

ABOUT = MappingProxyType({"set": "faults", "count": 2, "odd_in_set": 3})


@pytest.fixture
def stopped() -> Counts:
    """Return the counts of a run that was stopped after two of three."""
    counts = Counts.continued(ABOUT, None)
    for code in (0, 3, 3):
        counts.add("check", code, 1.0, 2.0 + code)
    counts.odd, counts.faults, counts.commits = 2, ["one"], ["older"]
    return counts


def test_a_stopped_record_is_continued(stopped: Counts, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write(path, {"faults": stopped.record(), "data": {"odd": 1}})
    again = Counts.continued(ABOUT, read(path)["faults"])
    again.add("check", 3, 9.0, 9.0)
    assert (again.odd, again.commands, again.faults) == (2, 4, ["one"])
    assert again.exits == {"check": {"0": 1, "3": 3}}
    assert again.slowest == {"check": [9.0, 9.0]}
    assert again.total_s["check"] == 2 + 5 + 5 + 9
    assert again.commits[0] == "older"
    assert len(again.commits) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_finished_record_and_one_of_other_things_are_not(stopped: Counts) -> None:
    other = {**ABOUT, "count": 3}
    assert Counts.continued(other, stopped.record()).odd == 0
    stopped.odd = 3
    assert Counts.continued(ABOUT, stopped.record()).commands == 0


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Path]:
    for run in ("valid", "cut"):
        (tmp_path / run).mkdir()
    writers.prepared({"w": tmp_path / "work", "r": tmp_path})
    return {"w": tmp_path / "work", "r": tmp_path}


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("small.onnx", "small.onnx is neither old nor new"),
        ("new.onnx", "new.onnx is neither old nor new"),
        ("both/model.onnx", "both/ has ['both/model.onnx']"),
        ("mine.txt", "mine.txt of the user's changed"),
    ],
)
def test_a_half_written_file_or_folder_is_seen(names: dict[str, Path], file: str, why: str) -> None:
    place = names["w"]
    before = writers.digests(place)
    whole = {**before, "small.onnx": "new", "both/model.onnx": "x", "both/config.json": "y"}
    (place / file).parent.mkdir(exist_ok=True)
    (place / file).write_bytes(b"half")
    assert why in writers.wrong("quantize", place, before, whole)
    writers.prepared(names)
    (place / ".hidden").write_bytes(b"half")
    assert writers.wrong("quantize", place, before, whole) == []


def test_a_half_written_model_in_the_folder_of_a_search_is_seen(
    names: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "unfit", lambda run: f"{run.name} cannot be resumed")
    before = writers.digests(names["w"])
    assert writers.wrong("optimize", names["w"], before, before) == []
    (names["w"] / "run").mkdir()
    (names["w"] / "run" / "best.onnx").write_bytes(b"half")
    found = writers.wrong("optimize", names["w"], before, before)
    assert found == ["run/best.onnx is not whole", "run cannot be resumed"]


def test_commands_take_turns_and_those_on_a_run_follow_optimize() -> None:
    odd = [Odd(str(number), dict, OF_MODEL) for number in range(40)]
    chosen = by_turns(odd, 3, seed=0)
    come = [name for one in chosen for name in one.commands]
    assert set(come) == set(OF_MODEL)
    assert all(list(one.commands)[-len(RUNS) :] == list(RUNS) for one in chosen if "optimize" in one.commands)
    assert not any("resume" in one.commands for one in chosen if "optimize" not in one.commands)
    runs = by_turns([Odd("a", dict, RUN_READERS)] * 9, 3, seed=0)
    assert {name for one in runs for name in one.commands} == set(RUN_READERS)


def test_every_command_is_run_or_left_out_for_a_reason() -> None:
    run = {text.split()[0] for text in (*OF_MODEL.values(), *RUN_READERS.values())}
    every = {command.name for command in app.registered_commands}
    assert run | set(OTHERS) == every
    assert not run & set(OTHERS)
    assert set(DATA_READERS) == {name for name, text in OF_MODEL.items() if "{d}" in text}


def test_every_pass_is_run() -> None:
    assert set(available_passes()) - {*re.findall(r"[\w-]+", " ".join(OF_MODEL.values()))} == {"quantize-dynamic"}
