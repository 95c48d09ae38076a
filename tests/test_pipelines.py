"""Every command of docs/pipelines.md, the example action and the pre-commit hook are run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxopt.cli.entry import main
from tests.run import fakes

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs/pipelines.md"
ACTION = ROOT / "docs/examples/action.yml"


def _bash(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **variables}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
        text=True,
    )


def test_every_command_in_the_document_works(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("onnxopt.run.recorder.search", fakes.fake_search)
    timed = {"baseline": fakes.latency(1.25), "best": fakes.latency(0.5, 2.5)}
    monkeypatch.setattr("onnxopt.run.claims.measure_latency", lambda *_, **__: timed)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "models/digits_lstm.onnx", tmp_path / "model.onnx")
    blocks = re.findall(r"^```sh\n(.*?)^```", DOC.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        if line.startswith("onnxopt "):
            assert main(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"
        else:
            done = _bash(line, tmp_path)
            assert done.returncode == 0, f"{line}: {done.stderr}"
    assert "## Optimization" in (tmp_path / "README.md").read_text()
    assert "'onnxopt.passes': 'simplify,quantize-dynamic'" in done.stdout


def _steps() -> dict[str, dict]:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the example")
    return {step["name"]: step for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"]}


def _run_steps(folder: Path, require_gain: str) -> tuple[list[int], Path, Path]:
    """Run the steps after `install` as a runner would, until one fails."""
    given = {
        **{"model": "model.onnx", "data": "digits", "max-drop": "1pp", "out": "run", "require-gain": require_gain},
        "arguments": "--latency-seconds 0.02 --limit 60 --time-limit 1",
    }
    summary, output = folder / "summary.md", folder / "output"
    codes = []
    for name in ("check", "optimize", "verify"):
        step = _steps()[name]
        named = {key: re.fullmatch(r"\$\{\{ inputs\.([\w-]+) }}", text)[1] for key, text in step["env"].items()}
        variables = {key: given[name] for key, name in named.items()}
        done = _bash(step["run"], folder, GITHUB_STEP_SUMMARY=str(summary), GITHUB_OUTPUT=str(output), **variables)
        codes.append(done.returncode)
        if done.returncode:
            break
    return codes, summary, output


def test_the_example_action_checks_optimizes_and_verifies(tmp_path):
    shutil.copy(ROOT / "models/digits_mlp.onnx", tmp_path / "model.onnx")
    codes, summary, output = _run_steps(tmp_path, "false")
    assert codes == [0, 0, 0]
    status = json.loads((tmp_path / "run/run.json").read_text())["status"]
    assert output.read_text() == f"status={status}\n"
    assert summary.read_text().endswith((tmp_path / "run/report.md").read_text())


def test_the_example_action_stops_at_a_bad_model(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    codes, summary, _ = _run_steps(tmp_path, "false")
    assert codes == [1]
    assert "CHK101" in summary.read_text()


@pytest.mark.parametrize(
    ("code", "require_gain", "ends_with"), [(0, "true", 0), (1, "false", 0), (1, "true", 1), (4, "false", 4)]
)
def test_the_example_action_ends_as_the_run_did(tmp_path, code, require_gain, ends_with):
    stub, run = tmp_path / "bin/onnxopt", tmp_path / "run"
    for folder in (stub.parent, run):
        folder.mkdir()
    stub.write_text(f"#!/bin/sh\nexit {code}\n")
    stub.chmod(0o755)
    (run / "run.json").write_text('{"status": "stubbed"}')
    (run / "report.md").write_text("# Report\n")
    names = ("MODEL", "DATA", "MAX_DROP", "ARGUMENTS")
    files = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    script = f"PATH={shlex.quote(str(stub.parent))}:$PATH\n{_steps()['optimize']['run']}"
    given = dict.fromkeys(names, "x") | {"OUT": "run", "REQUIRE_GAIN": require_gain} | files
    assert _bash(script, tmp_path, **given).returncode == ends_with
    assert (tmp_path / "output").exists() == (code <= 1)


def test_inputs_of_the_action_never_stand_in_a_script():
    for step in _steps().values():
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


def test_the_hook_for_pre_commit_runs_what_it_names(tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the hook")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["id"] in DOC.read_text()
    assert re.search(hook["files"], "models/a.onnx")
    assert not re.search(hook["files"], "models/a.onnx.data")
    good = ROOT / "models/digits_gru.onnx"
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nonsense")
    assert _bash(f"{hook['entry']} {shlex.quote(str(good))}", tmp_path).returncode == 0
    done = _bash(f"{hook['entry']} {shlex.quote(str(good))} bad.onnx", tmp_path)
    assert done.returncode == 1
    assert "CHK101" in done.stdout
