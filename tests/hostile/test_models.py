"""Models with a fault end in success or in one line with a code, and nothing is written that does not load."""

import random
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxopt.measure.runtime import first_load
from tests.hostile.model_faults import Fault, every_fault

FAULTS = list({fault.data: fault for fault in every_fault()}.values())
random.Random(0).shuffle(FAULTS)
SHARE = 40
"""So many always run, spread over all kinds; the rest is the grid's."""

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


def survives(cli, fault: Fault, folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(fault.data)
    for name, arguments in commands(path, folder / "out.onnx").items():
        (folder / "out.onnx").unlink(missing_ok=True)
        ended = cli(*arguments)
        said = f"{fault.name} {name}: {ended.err}"
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
    monkeypatch.setattr(first_load, "_death", lambda path: "")
    (tmp_path / CANARY).write_bytes(b"secret")
    work = tmp_path / "work"
    work.mkdir()
    _OPENED.clear()
    return work


def test_there_are_hundreds_of_faults() -> None:
    assert len(FAULTS) >= 400


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
