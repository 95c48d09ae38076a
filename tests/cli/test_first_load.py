"""A model on which ONNX Runtime crashes ends in one line, under every command that loads it."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.measure.runtime import first_load
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import load
from onnxopt.tasks.check import findings_of
from tests.model_file.test_functions import function_of, model_of

MODEL = Path(__file__).parents[2] / "models" / "digits_mlp.onnx"


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose load kills the process that does it, as a segmentation fault does."""
    first_load._DEATHS.clear()
    monkeypatch.setattr(first_load, "_LOAD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    return Path(shutil.copy(MODEL, tmp_path / "m.onnx"))


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    first_load._DEATHS.clear()


def test_a_crash_is_one_error(crashing: Path) -> None:
    with pytest.raises(ModelError) as refused:
        first_load.survive_loading(crashing)

    assert refused.value.code == "ONX304"
    assert refused.value.why == "the process that loaded it was ended by signal 11"


def test_a_crash_is_a_finding_of_check(crashing: Path) -> None:
    assert any(f.code == "CHK105" and "crashes" in f.detail for f in findings_of(crashing))


@pytest.mark.parametrize("command", ["inspect", "quantize", "benchmark"])
def test_a_command_says_that_the_runtime_crashes(cli, crashing: Path, tmp_path: Path, command: str) -> None:
    ended = cli(command, crashing, *(["--mode", "dynamic", "-o", tmp_path / "o.onnx"] if command == "quantize" else []))

    assert ended.code == 3
    assert ended.err.startswith("ONX304: ONNX Runtime crashes on the model")


@pytest.fixture
def crashes_on_float16(tmp_path: Path) -> Path:
    """A product of float16 between two transposes: ONNX Runtime's last optimizations crash on it on x86-64."""
    weight = onnx.numpy_helper.from_array(np.eye(8, dtype=np.float16), "w")
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"], perm=[1, 0, 2]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, [2, 3, 8]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the fault is in the layout that the runtime has for x86-64")
def test_a_float16_graph_that_crashes_the_runtime_ends_in_words_and_loads_with_fewer_optimizations(
    cli, crashes_on_float16: Path
) -> None:
    ended = cli("benchmark", crashes_on_float16)

    assert ended.code == 3
    assert ended.err.startswith("ONX304: ONNX Runtime crashes on the model")
    assert "--optimization-level extended" in " ".join(ended.err.split())
    with pytest.raises(first_load.CrashError):
        Session(load(crashes_on_float16), Runtime())
    assert cli("benchmark", crashes_on_float16, "--optimization-level", "extended").code == 0


def test_a_graph_in_memory_is_loaded_apart_only_if_it_moves_float16(
    crashes_on_float16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(first_load, "_death", lambda path, level: started.append(level) or "")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    half, plain = load(crashes_on_float16), load(MODEL)
    first_load.survive_float16(plain, b"plain", "all")
    first_load.survive_float16(half, b"half", "extended")
    assert started == []

    first_load.survive_float16(half, b"half", "all")
    first_load.survive_float16(half, b"half", "all")
    assert started == ["all"]


def test_one_content_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_load._DEATHS.clear()
    started: list[object] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    for name in ("a.onnx", "b.onnx"):
        first_load.survive_loading(Path(shutil.copy(MODEL, tmp_path / name)))

    assert len(started) == 1


def test_a_model_that_the_runtime_refuses_in_words_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")

    first_load.survive_loading(path)


def test_functions_without_end_are_refused_before_the_runtime_expands_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubling = [function_of(f"F{i}", *[f"F{i + 1}"] * 2) for i in range(40)] + [function_of("F40", "Relu")]
    onnx.save(model_of(doubling, "F0"), tmp_path / "m.onnx")
    monkeypatch.setattr(first_load, "_death", lambda path, level: pytest.fail("the runtime was started"))

    with pytest.raises(ModelError) as refused:
        first_load.survive_loading(tmp_path / "m.onnx")

    assert refused.value.code == "ONX305"
