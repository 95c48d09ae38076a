"""`onnxopt init --github` writes a workflow that does what the example action does, and works."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import MODELS

yaml = pytest.importorskip("yaml", reason="PyYAML reads workflows")
ROOT = Path(__file__).parents[2]
FILE = Path(".github/workflows/onnxopt.yml")


@pytest.fixture(autouse=True)
def _repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODELS / "digits_mlp.onnx", "model.onnx")


def _job(file: Path = FILE) -> dict:
    return yaml.safe_load(file.read_text())["jobs"]["optimize"]


def test_its_steps_are_those_of_the_example_action(cli):
    assert cli("init", "model.onnx", "--github").code == 0
    example = yaml.safe_load((ROOT / "docs/examples/action.yml").read_text())
    shown = {step["name"]: step["run"] for step in example["runs"]["steps"]}
    written = {step["name"]: step["run"] for step in _job()["steps"] if "run" in step}
    assert written == shown
    inputs = {name.upper().replace("-", "_") for name in example["inputs"]}
    assert set(_job()["env"]) == inputs
    assert _job()["env"]["PACKAGE"] == example["inputs"]["package"]["default"]


def test_the_report_is_kept_even_when_the_gate_fails(cli):
    cli("init", "model.onnx", "--github")
    last = _job()["steps"][-1]
    assert (last["if"], last["with"]["path"]) == ("always()", _job()["env"]["OUT"])
    assert last["uses"].startswith("actions/upload-artifact@")


def test_the_steps_run(cli, tmp_path):
    ended = cli("init", "model.onnx", "--github", "--data", "digits", "--max-drop", "2pp")
    assert ended.code == 0, ended.err
    job = _job()
    assert (job["env"]["MODEL"], job["env"]["DATA"], job["env"]["MAX_DROP"]) == ("model.onnx", "digits", "2pp")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    files = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    short = {"ARGUMENTS": "--latency-seconds 0.02 --limit 60 --time-limit 1"}
    for step in job["steps"]:
        if step.get("name") in ("check", "optimize", "verify"):
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                env={**os.environ, "PATH": path, **job["env"], **short, **files},
                capture_output=True,
                check=False,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "summary.md").read_text().endswith(Path("onnxopt-run/report.md").read_text())
    assert json.loads(Path("onnxopt-run/run.json").read_text())["status"] in (tmp_path / "output").read_text()


def test_it_watches_the_model_and_the_samples(cli):
    Path("photos").mkdir()
    cli("init", "model.onnx", "--github", "--data", "photos")
    # YAML 1.1 reads `on` as true.
    events = yaml.safe_load(FILE.read_text())[True]
    assert events["push"]["paths"] == events["pull_request"]["paths"]
    assert events["push"]["paths"] == ["model.onnx", "photos/**", FILE.as_posix()]


def test_names_are_data_and_nothing_else(cli):
    name = "a'b\"c $(touch x)[1].onnx"
    Path("model.onnx").rename(name)
    np.savez("s: #.npz", x=np.zeros((3, 64), np.float32))
    assert cli("init", name, "--github", "--data", "s: #.npz").code == 0
    assert (_job()["env"]["MODEL"], _job()["env"]["DATA"]) == (name, "s: #.npz")
    assert yaml.safe_load(FILE.read_text())[True] == {"workflow_dispatch": None, "pull_request": None, "push": None}
    Path(name).rename("${{ secrets.X }}.onnx")
    assert cli("init", "${{ secrets.X }}.onnx", "--github", "--overwrite").err.startswith("ONX101: GitHub would read")


def test_an_existing_workflow_stays(cli):
    FILE.parent.mkdir(parents=True)
    FILE.write_text("mine")
    ended = cli("init", "model.onnx", "--github")
    assert (ended.code, ended.err[:6], FILE.read_text()) == (5, "ONX502", "mine")
    assert cli("init", "model.onnx", "--github", "--overwrite").code == 0
    assert "actions/checkout" in FILE.read_text()
    Path("mine.txt").write_text("mine")
    assert cli("init", "model.onnx", "--github", "-o", "mine.txt", "--overwrite").err.startswith("ONX504")


def test_what_is_outside_or_no_model_is_refused(cli, tmp_path_factory):
    outside = tmp_path_factory.mktemp("elsewhere") / "m.onnx"
    shutil.copy("model.onnx", outside)
    assert cli("init", outside, "--github").err.startswith("ONX101: the file is outside of the repository")
    assert cli("init", "model.onnx", "--github", "--data", outside).err.startswith("ONX101")
    assert cli("init", "none.onnx", "--github").code == 5
    assert cli("init", "model.onnx", "--github", "--max-drop", "-1").err.startswith("ONX101")
    assert not FILE.exists()
