"""A kit runs with only onnxruntime and numpy, by hand and over a real ssh connection."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt.cli.entry import main
from onnxopt.errors import DataError, FileError, NativeError, UsageError
from onnxopt.measure.device.kit import runner_source
from onnxopt.measure.device.local import Interpreter
from onnxopt.measure.device.result import read_result
from onnxopt.measure.device.ssh import Board, run_on_board
from onnxopt.run.add_device import add_to_run
from onnxopt.run.runs import read_record
from onnxopt.tasks.device import bundle, device_document, measure_on
from tests import numerics
from tests.measure.device.ssh_server import server
from tests.run import fakes

__all__ = ["server"]

ROOT = Path(__file__).parents[3]
# The digits network has two outputs, the class and its probabilities: each sample is compared twice.
MODELS = (ROOT / "models" / "digits_mlp.onnx", ROOT / "models" / "digits_mlp.onnx")


@pytest.fixture
def kit(tmp_path):
    pytest.importorskip("sklearn")
    return bundle(MODELS, "digits", out=tmp_path / "kit", seconds=0.2, samples=8)


def test_a_kit_needs_nothing_of_this_package(kit):
    assert "from onnxopt" not in runner_source()
    guard = "import sys, runpy; sys.modules['onnxopt'] = None; sys.argv = ['run.py']; "
    guard += "runpy.run_path('run.py', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", guard], cwd=kit, capture_output=True, text=True, check=False)
    assert "Written: result.json" in ended.stdout, ended.stderr
    result = read_result(kit / "result.json")
    assert [m.difference for m in result.models] == [0.0, 0.0]
    assert [(m.same_class, m.classified) for m in result.models] == [(80, 80), (80, 80)]
    first, second = (m.latency for m in result.models)
    assert first is not None
    assert second is not None
    assert first.speedup is None
    assert second.inputs == 32
    assert (second.speedup is None) == bool(second.unsure)
    assert second.p50_ms > 0
    with np.load(kit / "outputs.npz") as outputs:
        assert len(outputs.files) == 2 * 2 * 33
    shown = device_document(result)
    assert shown.data["models"][0]["same_class"] == 80


def test_a_changed_prediction_shows(kit):
    with np.load(kit / "expected.npz") as stored:
        expected = dict(stored)
    key = next(k for k in expected if k.startswith("1/0/") and expected[k].ndim == 2)
    expected[key] = np.roll(expected[key], 1, axis=-1)
    np.savez(kit / "expected.npz", **expected)
    subprocess.run([sys.executable, "run.py", "--seconds", "0.01"], cwd=kit, check=True, capture_output=True)
    first, second = read_result(kit / "result.json").models
    assert (first.same_class, second.same_class) == (80, 79)
    assert second.difference is not None
    assert second.difference > 0.01


def test_emulation_is_refused_and_predictions_still_count(kit):
    told = (kit / "run.py").read_text().replace("    why = emulator()\n", '    why = "qemu"\n')
    assert 'why = "qemu"' in told
    (kit / "run.py").write_text(told)
    subprocess.run([sys.executable, "run.py"], cwd=kit, check=True, capture_output=True)
    result = read_result(kit / "result.json")
    assert result.refused is not None
    assert all(m.latency is None for m in result.models)
    assert result.models[0].same_class == 80
    assert "No times" in str(device_document(result).blocks)


@pytest.fixture
def measured(tmp_path):
    """The result of a kit, and the folder of the run its second model came from."""
    pytest.importorskip("sklearn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxopt.run.recorder.search", fakes.static_search)
        run = onnxopt.optimize(MODELS[0], "digits", out=tmp_path / "run").folder
    kit = bundle((MODELS[0], run / "best.onnx"), "digits", out=tmp_path / "own", seconds=0.05, samples=8)
    subprocess.run([sys.executable, "run.py"], cwd=kit, check=True, capture_output=True)
    return kit / "result.json", run


def test_a_result_goes_into_the_report_of_its_run(measured):
    result, run = measured
    assert main(["device-result", str(result), "--run", str(run)]) == 0
    device = read_record(run).devices[0]
    assert [m.sha256 for m in device.models] == [m.sha256 for m in read_result(result).models]
    assert device.models[1].latency is not None
    assert device.facts["software"] in (run / "report.html").read_text()
    assert f"## On {device.facts['device']}" in (run / "report.md").read_text()
    assert main(["verify", str(run)]) == 0
    # The same device again replaces what it said before.
    add_to_run(read_result(result), run)
    assert len(read_record(run).devices) == 1


def test_a_result_of_another_run_is_refused(kit, measured):
    _, run = measured
    before = (run / "run.json").read_bytes()
    subprocess.run([sys.executable, "run.py", "--seconds", "0.01"], cwd=kit, check=True, capture_output=True)
    with pytest.raises(DataError, match=r"ONX201.*other models"):
        add_to_run(read_result(kit / "result.json"), run)
    assert (run / "run.json").read_bytes() == before


def test_a_folder_in_use_is_refused(kit):
    with pytest.raises(FileError, match="ONX502"):
        bundle(MODELS, "digits", out=kit)


@pytest.mark.parametrize("text", ["board", "ssh://", "ssh://-oProxyCommand=x", "ssh://a?x=1", "ssh://a/b", "ssh://a:x"])
def test_a_device_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="ONX101"):
        Board.parse(text)


def test_a_device_is_read():
    board = Board.parse("ssh://me@board:2222?python=/opt/py/bin/python")
    assert (board.host, board.port, board.python) == ("me@board", 2222, "/opt/py/bin/python")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 99}'])
def test_what_is_no_result(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match="ONX201"):
        read_result(tmp_path / "result.json")


def test_another_python_of_this_machine_is_a_device():
    found = measure_on(f"local://{sys.executable}", MODELS, "digits", seconds=0.05)
    assert [(m.difference, m.same_class) for m in found.models] == [(0.0, m.classified) for m in found.models]
    assert found.models[1].latency is not None
    assert found.device["provider"] == "CPUExecutionProvider"
    assert found.device["python"] == sys.version.split()[0]


def test_it_has_none_of_the_packages_that_this_process_was_given_by_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    environment = Interpreter("/usr/bin/python3").environment()
    assert "PYTHONPATH" not in environment
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_provider_that_another_python_lacks_is_named():
    with pytest.raises(NativeError, match=r"ONX405.*NnapiExecutionProvider cannot be used.*CPUExecutionProvider"):
        measure_on(f"local://{sys.executable}?provider=nnapi", MODELS, "digits", seconds=0.05)
    with pytest.raises(UsageError, match=r"ONX102.*Did you mean 'openvino'"):
        measure_on(f"local://{sys.executable}?provider=openvin", MODELS, "digits", seconds=0.05)


@pytest.mark.parametrize(
    "text", ["local://python", "local:python", "local:///p?python=x", "local:", "local://host/python"]
)
def test_a_python_that_cannot_be_read(text):
    with pytest.raises(UsageError, match=r"ONX101.*local:///path/to/python"):
        measure_on(text, MODELS, "digits")


def test_a_python_that_is_not_there(tmp_path):
    pytest.importorskip("sklearn")
    with pytest.raises(NativeError, match="ONX404"):
        measure_on(f"local://{tmp_path}/python", MODELS, "digits")
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(NativeError, match=r"ONX405.*cannot run"):
        measure_on(f"local://{bare}", MODELS, "digits")


def test_a_board_over_ssh(kit, server):
    result = read_result(run_on_board(kit, server.board()))
    assert [m.same_class for m in result.models] == [80, 80]
    assert result.models[1].latency is not None
    assert json.loads((kit / "result.json").read_text())["device"]["python"] == sys.version.split()[0]


def test_a_board_without_a_usable_python(kit, server):
    with pytest.raises(NativeError, match="ONX405"):
        run_on_board(kit, server.board("/nowhere/python"))


def test_a_board_that_is_not_there(monkeypatch):
    pytest.importorskip("sklearn")
    if subprocess.run(["which", "ssh"], capture_output=True, check=False).returncode:
        pytest.skip("there is no OpenSSH client")
    with pytest.raises(NativeError, match="ONX404"):
        measure_on("ssh://127.0.0.1:1", MODELS, "digits", seconds=0.1)


@pytest.mark.long
def test_predictions_agree_on_an_emulated_arm_board(tmp_path, server):
    python = os.environ.get("ONNXOPT_ARM_PYTHON")
    if not python:
        pytest.skip("ONNXOPT_ARM_PYTHON names no Python for arm64")
    kit = bundle((ROOT / "models" / "digits_resnet.onnx",), "digits", out=tmp_path / "kit", samples=16)
    result = read_result(run_on_board(kit, server.board(python)))
    (model,) = result.models
    assert result.device["architecture"] == "aarch64"
    assert (model.same_class, model.classified) == (32 + 16, 32 + 16)
    assert model.difference is not None
    assert model.difference < numerics.EXACT_RELATIVE
    assert result.refused is not None
    assert model.latency is None
