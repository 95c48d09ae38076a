import json
import subprocess
import sys
import time

import pytest

from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.search import optimize, runner
from onnxopt.search.runner import Here
from onnxopt.search.strategies import first_candidates


def _latency(models, *_, **__):
    faster = Interval(1.9, 2, 2.1)
    return {
        name: Latency(1.0, 1, 1, 9, 1, 1, None if name == "baseline" else faster, None, 1, Interval(1, 1, 1))
        for name in models
    }


@pytest.fixture
def scored(monkeypatch):
    """Keep the plan short; Ctrl-C is pressed when the second candidate is scored for the first time."""
    names: list[str] = []
    real = Here.score

    def score(self, candidate, model):
        names.append(candidate.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return real(self, candidate, model)

    monkeypatch.setattr(Here, "score", score)
    monkeypatch.setattr(runner, "measure_latency", _latency)
    monkeypatch.setattr(optimize, "first_candidates", lambda: first_candidates()[:2])
    return names


def test_an_interrupted_search_goes_on_with_the_options_it_was_begun_with(cli, mlp, tmp_path, monkeypatch, scored):
    started, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    started.mkdir()
    elsewhere.mkdir()
    words = ["optimize", str(mlp), "--data", "digits", "--limit", "80", "--max-drop", "5pp", "--out", "my run"]
    monkeypatch.setattr(sys, "argv", ["onnxopt", *words])
    monkeypatch.chdir(started)
    ended = cli(*words)
    assert ended.code == 130
    assert "to go on: onnxopt resume 'my run'" in ended.err
    first = json.loads((started / "my run" / "run.json").read_text())

    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "argv", ["onnxopt", "resume", str(started / "my run")])
    ended = cli("resume", started / "my run", "--format", "json", "-q")
    assert ended.code in (0, 1), ended.err
    assert scored[:1] + scored[2:] == [c.name for c in first_candidates()[:2]] + scored[3:]
    then = json.loads((started / "my run" / "run.json").read_text())
    assert then["status"] in ("won", "kept-original")
    assert then["command"] == first["command"]
    assert then["settings"] == first["settings"]
    assert [t["name"] for t in then["trials"]][: len(first["trials"])] == [t["name"] for t in first["trials"]]
    assert not list(elsewhere.iterdir())


def test_what_cannot_be_resumed(cli, tmp_path):
    ended = cli("resume", tmp_path)
    assert ended.code != 0
    assert ended.err.startswith("ONX50")
    assert ended.err.count("\n") == 1


def test_a_search_that_was_begun_from_python_says_how(cli, mlp, tmp_path, scored):
    import onnxopt

    with pytest.raises(KeyboardInterrupt):
        onnxopt.optimize(mlp, "digits", limit=80, out=tmp_path / "run")
    ended = cli("resume", tmp_path / "run")
    assert ended.code == 2
    assert "ONX110" in ended.err
    assert "resume=True" in ended.err


def test_who_ends_the_process_leaves_as_much_as_ctrl_c(tmp_path, mlp):
    words = ["optimize", str(mlp), "-d", "digits", "--out", str(tmp_path / "run"), "--prune"]
    program = "import sys; from onnxopt.cli.entry import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("interrupted: what was found so far is in ")
    assert (tmp_path / "run" / "report.html").exists()
