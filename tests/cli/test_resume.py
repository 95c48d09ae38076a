import inspect
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Interval
from onnxopt.record.options import KeptOptions
from onnxopt.search import optimize
from onnxopt.search.bets import TrialOrder
from onnxopt.search.candidates import first_candidates
from onnxopt.search.workers import runner
from onnxopt.search.workers.runner import LocalRunner


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
    real = LocalRunner.score

    def score(self, candidate, model):
        names.append(candidate.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return real(self, candidate, model)

    monkeypatch.setattr(LocalRunner, "score", score)
    monkeypatch.setattr(runner, "measure_latency", _latency)
    monkeypatch.setattr(optimize, "first_candidates", lambda: first_candidates()[:2])
    monkeypatch.setattr(optimize, "order_of", lambda candidates, _: TrialOrder(candidates, (), ()))
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
    assert "to continue: onnxopt resume 'my run'" in ended.err
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


def test_a_search_that_was_begun_from_python_goes_on_too(cli, mlp, tmp_path, monkeypatch, scored):
    import onnxopt

    monkeypatch.chdir(mlp.parent)
    with pytest.raises(KeyboardInterrupt):
        onnxopt.optimize(mlp.name, "digits", limit=80, out=tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    about, *rest = journal.read_text().splitlines()
    begun = json.loads(about)
    assert begun["about"].pop("setting device") == "None"  # as if the search were older than the option
    journal.write_text("\n".join([json.dumps(begun), *rest, ""]))
    monkeypatch.chdir(tmp_path)
    ended = cli("resume", tmp_path / "run", "-q")
    assert ended.code in (0, 1), ended.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] in ("won", "kept-original")


def test_arguments_in_memory_are_given_again(cli, mlp, tmp_path, scored):
    import onnxopt

    x = np.random.default_rng(0).random((80, 64), np.float32)
    with pytest.raises(KeyboardInterrupt):
        onnxopt.optimize(mlp, x, out=tmp_path / "run")
    ended = cli("resume", tmp_path / "run")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "ONX110" in ended.err
    assert "--data ..." in ended.err
    np.save(tmp_path / "x.npy", x)
    ended = cli("resume", tmp_path / "run", "--data", tmp_path / "x.npy")
    assert "ONX110: the folder holds a search with other options" in ended.err or ended.code in (0, 1)


@pytest.mark.parametrize("planted", ["metric", "again", "command"])
def test_nothing_that_a_folder_names_is_imported(cli, mlp, tmp_path, scored, planted):
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()\ndef f(outputs, labels): return 1.0\n")
    run = tmp_path / "run"
    assert cli("optimize", mlp, "--data", "digits", "--limit", "80", "--out", run).code == 130
    record = json.loads((run / "run.json").read_text())
    if planted == "command":
        record["command"] = f"cd {tmp_path} && onnxopt optimize {mlp} --data digits --metric {evil}:f"
        record["options"] = None
    elif planted == "metric":
        record["options"]["metric"] = f"{evil}:f"
    else:
        record["options"]["again"] = ["metric"]
    (run / "run.json").write_text(json.dumps(record))
    ended = cli("resume", run)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("ONX110")
    assert not (tmp_path / "canary").exists()
    if planted != "command":
        assert "--metric ..." in ended.err
        cli("resume", run, "--metric", f"{evil}:f")
        assert (tmp_path / "canary").exists()


def test_every_argument_of_a_search_is_kept_or_given_again():
    import onnxopt

    asked = set(inspect.signature(onnxopt.optimize).parameters)
    kept = set(KeptOptions.model_fields) - {"version", "again", "in_memory", "provider", "threads", "optimization"}
    again = {"device", "cluster", "bench", "tls", "runtime"}
    assert asked - {"options", "out", "overwrite", "resume", "observer", "command"} == kept | again


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
    assert said.strip().splitlines()[-1].startswith("interrupted: results so far are in ")
    assert (tmp_path / "run" / "report.html").exists()
