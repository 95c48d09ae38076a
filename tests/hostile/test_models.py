"""Models with a fault end in success or in one line with a code, and nothing is written that does not load."""

import random
import shutil
import sys
import time
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxopt.measure.runtime import first_load
from tests.hostile.model_faults import Fault, every_fault
from tests.hostile.secrets import PLACES, WAYS, lead_out

FAULTS = list({fault.data: fault for fault in every_fault()}.values())
random.Random(0).shuffle(FAULTS)
SHARE = 40
"""So many always run, spread over all kinds; the rest is the grid's."""
MOST_CPU_S = 20
"""Processor time of one command: none hangs."""

CANARY = "canary"
_OPENED: list[str] = []


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and CANARY in str(arguments[0]):
        _OPENED.append(str(arguments[0]))


sys.addaudithook(_listen)


def commands(path: Path, out: Path) -> dict[str, list[object]]:
    return {
        "check": ["check", path],
        "inspect": ["inspect", path],
        "simplify": ["apply", path, "--passes", "simplify", "-o", out, "--overwrite"],
        "dynamic": ["quantize", path, "--mode", "dynamic", "-o", out, "--overwrite"],
    }


def one_more(number: int, path: Path, out: Path) -> list[object]:
    """Return another command, each in turn: all of them on all faults would take hours."""
    few = ["-d", "random:8"]
    others: list[list[object]] = [
        ["quantize", path, *few, "--mode", "static", "-o", out, "--overwrite"],
        ["sensitivity", path, *few],
        ["compare", path, path, *few, "--seconds", "0.01"],
        ["benchmark", path, "--seconds", "0.01"],
        ["repair", path, "--seconds", "0.01", "-o", out, "--overwrite"],
        ["variants", path, "--for", "transformers.js", "--only", "fp16", "--overwrite"],
        ["data", "random:4", "--for", path, "-o", out.with_name("x.npz"), "--overwrite"],
        ["bundle", path, *few, "-o", out.with_name("kit")],
        ["inspect", path, "--spectrum"],
        ["apply", path, "--passes", "prune-weights,store-float16", "-o", out, "--overwrite"],
        ["diagnose", path, path, *few],
        ["init", path, "-o", out.with_name("c.toml"), "--overwrite"],
        ["session", path, "--seconds", "0.01", "--threads", "1", "--overwrite"],
        ["quantize", path, *few, "--mode", "auto", "-o", out, "--overwrite"],
        ["export", path, "-o", out.with_name("out.ort"), "--overwrite"],
        ["audit", path.parent],
    ]
    return others[number % len(others)]


def survives(cli, fault: Fault, folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(fault.data)
    shutil.rmtree(folder / "kit", ignore_errors=True)
    every = {
        **commands(path, folder / "out.onnx"),
        "one more": one_more(FAULTS.index(fault), path, folder / "out.onnx"),
    }
    for name, arguments in every.items():
        (folder / "out.onnx").unlink(missing_ok=True)
        since = time.process_time()
        ended = cli(*arguments)
        assert time.process_time() - since < MOST_CPU_S, f"{fault.name} {name}"
        said = f"{fault.name} {name} {arguments[0]}: {ended.err}"
        assert ended.code in (0, 1, 2, 3, 4), said
        assert "Traceback" not in ended.err, said
        if ended.code >= 2:
            assert ended.err.startswith("ONX"), said
            assert ended.err.count("\n") == 1, said
        if (folder / "out.onnx").exists():
            assert ended.code == 0, said
            ort.InferenceSession(folder / "out.onnx")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A process for each of a thousand models is minutes; tests/cli/test_first_load.py is about those.
    monkeypatch.setattr(first_load, "_death", lambda path, level: "")
    (tmp_path / CANARY).mkdir()
    (tmp_path / CANARY / "secret.bin").write_bytes(b"secret")
    work = tmp_path / "work"
    work.mkdir()
    _OPENED.clear()
    return work


def test_there_are_hundreds_of_faults() -> None:
    assert len(FAULTS) >= 400


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way == "hard" else pytest.mark.grid) for way in WAYS])
@pytest.mark.parametrize(("base", "number"), PLACES)
def test_numbers_outside_of_the_folder_are_not_read(cli, here: Path, base: str, number: int, way: str) -> None:
    fault = Fault(f"{base} {number} {way}", lead_out(base, number, way, here))
    _OPENED.clear()
    path, out = here / "m.onnx", here / "out"
    path.write_bytes(fault.data)
    every = {
        **commands(path, out / "out.onnx"),
        "bundle": ["bundle", path, "-d", "random:4", "-o", out / "kit"],
        "export": ["export", path, "-o", out / "out.ort"],
    }
    for name, arguments in every.items():
        out.mkdir(exist_ok=True)
        ended = cli(*arguments)
        assert ended.code == (1 if name == "check" else 3), f"{name}: {ended.err}"
        assert not [file for file in out.rglob("*") if file.is_file()]
    assert _OPENED == []


def test_a_share_of_all_faults_ends_in_words(cli, here: Path) -> None:
    for fault in FAULTS[:SHARE]:
        survives(cli, fault, here)
    assert _OPENED == []


@pytest.mark.grid
@pytest.mark.parametrize("first", range(SHARE, len(FAULTS), 25))
def test_every_fault_ends_in_words(cli, here: Path, first: int) -> None:
    for fault in FAULTS[first : first + 25]:
        survives(cli, fault, here)
    assert _OPENED == []
