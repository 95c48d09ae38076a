"""Every process starts without the runtime's telemetry, and none imports what lies in the current folder."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from onnxopt.child import TELEMETRY, child_environment, telemetry

ROOT = Path(__file__).parents[1]
MODEL = str(ROOT / "models" / "digits_mlp.onnx")
SPY = """
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            with open(os.environ["SPY_LOG"], "a") as log:
                log.write(os.environ.get("ORT_DISABLE_TELEMETRY", "not set") + "\\n")
sys.meta_path.insert(0, Spy())
"""
CANARY = "import os; open(os.environ['SPY_LOG'] + '.canary', 'a').write(__file__)"
BENCH = ("benchmark", MODEL, "--seconds", "0.05", "--memory")
ISOLATED = "import os\nif __name__ == '__main__':\n    from onnxopt.search.workers.executor import Isolated\n    "
ISOLATED += "from onnxopt.measure.runtime.session import Runtime\n    print(Isolated(60).submit(Runtime).result())"


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose processes log the variable as it is when they first import the runtime."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    environment = {key: value for key, value in os.environ.items() if key != TELEMETRY}
    paths = os.pathsep.join([str(tmp_path / "spy"), str(ROOT)])
    return {**environment, "PYTHONPATH": paths, "SPY_LOG": str(tmp_path / "log")}


def run(environment: Mapping[str, str], cwd: Path, *arguments: str) -> str:
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def logged(environment: Mapping[str, str]) -> list[str]:
    return Path(environment["SPY_LOG"]).read_text().split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "onnxopt", *BENCH),
        ("-m", "onnxopt", "doctor"),
        ("-c", "import onnxopt; onnxopt.benchmark"),
        ("-c", ISOLATED),
    ],
    ids=["command line and child", "doctor", "python", "trial in its own process"],
)
def test_the_runtime_is_never_loaded_with_its_telemetry_on(watched, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run(watched, tmp_path, *arguments)
    assert set(logged(watched)) == {"1"}


@pytest.mark.slow
def test_a_kit_for_a_device_switches_it_off(watched, tmp_path: Path) -> None:
    bundle = ("bundle", MODEL, "--data", "digits", "--out", str(tmp_path / "kit"))
    run(watched, tmp_path, "-m", "onnxopt", *bundle)
    alone = {**watched, "PYTHONPATH": str(tmp_path / "spy")}
    run(alone, tmp_path, str(tmp_path / "kit" / "run.py"), "--seconds", "0.05")
    assert set(logged(watched)) == {"1"}


@pytest.mark.slow
def test_the_users_own_value_stays(watched, tmp_path: Path) -> None:
    report = run({**watched, TELEMETRY: "0"}, tmp_path, "-m", "onnxopt", "doctor", "--format", "json")
    assert set(logged(watched)) == {"0"}
    assert json.loads(report)["telemetry"] == f"not disabled: {TELEMETRY} is '0'"


def test_doctor_words() -> None:
    assert telemetry({TELEMETRY: "1"}) == "off"
    assert telemetry({}) == f"not disabled: {TELEMETRY} is not set"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("-m", "onnxopt", *BENCH), ("-c", ISOLATED)], ids=["memory", "trial"])
def test_no_process_imports_from_the_current_folder(watched, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for module in ("typing", "multiprocessing", "json", "numpy"):
        (tmp_path / f"{module}.py").write_text(CANARY)
    run(watched, tmp_path, *arguments)
    assert not Path(watched["SPY_LOG"] + ".canary").exists()


def test_children_do_not_get_the_current_folder_as_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(ROOT)])
    assert child_environment()["PYTHONPATH"] == str(ROOT)
    assert child_environment()["PYTHONSAFEPATH"] == "1"
    assert child_environment(OMP_NUM_THREADS="1")["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")
