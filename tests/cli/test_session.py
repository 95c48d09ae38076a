import json
import shutil

import pytest

from onnxopt.measure.forms.figures import Measured
from onnxopt.measure.statistics import Interval
from onnxopt.tasks.session import tune


@pytest.fixture
def quick(monkeypatch):
    """Every choice is measured as twice as good, in no time."""

    def measured(goal, variants):
        return {name: Measured(1.0, Interval(1.9, 2, 2.1) if i else None) for i, name in enumerate(variants)}

    monkeypatch.setattr(tune, "MachineClock", lambda *args: measured)


@pytest.mark.parametrize("goal", ["latency", "cold-start", "memory", "throughput"])
def test_the_command_writes_session_json_for_each_goal(cli, mlp, tmp_path, quick, goal):
    model = shutil.copy(mlp, tmp_path / "model.onnx")
    line = ("session", model, "--data", "digits", "--goal", goal, "--threads", 2)
    ended = cli(*line, "--format", "json")
    assert ended.code == 0
    found, written = json.loads(ended.out), json.loads((tmp_path / "session.json").read_text())
    assert {key: found[key] for key in written} == written
    assert found["trials"]
    assert written["goal"] == goal
    again = cli(*line)
    assert again.code == 5
    assert again.err.startswith("ONX502")
    shown = cli(*line, "--overwrite")
    assert shown.code == 0
    assert "Outputs" in shown.out
    for language in ("python:", "c++:", "c#:"):
        assert language in shown.out


def test_the_model_is_measured_really(cli, mlp, tmp_path):
    model = shutil.copy(mlp, tmp_path / "model.onnx")
    ended = cli("session", model, "--seconds", 0.05, "--threads", 1, "-o", tmp_path / "mine.json")
    assert ended.code == 0
    assert (tmp_path / "mine.json").exists()
