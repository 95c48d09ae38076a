"""What helps at a terminal: progress, completion, a first configuration file."""

import io
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from onnxopt.catalog import parse
from onnxopt.cli import progress
from onnxopt.cli.options import Shown
from onnxopt.cli.progress import ProgressBar, SearchBar
from onnxopt.search.trial import Candidate, Trial, Verdict
from onnxopt.tasks.doctor import frequency_governor
from tests.run import fakes


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _trial(verdict: Verdict) -> Trial:
    latency = fakes.latency(0.5, 2.5)
    return Trial(Candidate("static", parse("simplify")), verdict, "because", (), 250_000, latency=latency)


def _search(bar: ProgressBar) -> list[str]:
    said: list[str] = []
    observer = SearchBar(bar, said.append)
    trial = _trial(Verdict.WITHIN)
    with bar:
        observer.baseline(trial, 0.01)
        observer.planned((trial.candidate, trial.candidate))
        observer.started(trial.candidate)
        observer.finished(trial)
        observer.progress("sensitivity of layers", 3, 10)
        observer.finished(trial)
    return said


def test_steps_are_numbered_on_a_terminal(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    _search(ProgressBar(Shown()))
    text = terminal.getvalue()
    assert "baseline: 0.500 ms" in text
    assert "1/2 static: within budget, 0.500 ms, 2.50x, 250 kB" in text
    assert "2/2 static: within budget" in text
    assert "sensitivity of layers" in text
    assert "left:" in text


def test_a_baseline_that_proves_nothing_warns_at_once(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    trial = replace(_trial(Verdict.BASELINE), score=replace(fakes.score(0.1), warning="Warning: like a guess."))
    with ProgressBar(Shown()) as bar:
        SearchBar(bar, lambda _: None).baseline(trial, 0.01)
    assert terminal.getvalue() == "baseline: 0.500 ms, 2.50x, 250 kB\nWarning: like a guess.\n"


@pytest.mark.parametrize("after_s", [0.0, 60.0])
def test_lines_break_between_words_and_not_between_a_number_and_its_unit(monkeypatch, after_s):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "SHOW_AFTER_S", after_s)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "48")
    trial = _trial(Verdict.WITHIN)
    with ProgressBar(Shown()) as bar:
        observer = SearchBar(bar, lambda _: None)
        observer.started(trial.candidate)
        observer.finished(trial)
        bar.line("532 hold-out samples can prove a budget of 0.69 points or more")
    text = terminal.getvalue()
    assert "1/1 static: within budget, 0.500 ms, 2.50x,\n    250 kB\n" in text
    assert "532 hold-out samples can prove a budget of 0.69\n    points or more\n" in text


@pytest.mark.parametrize(("quiet", "watched"), [(True, True), (False, False)])
def test_nothing_is_shown_where_nobody_watches(monkeypatch, quiet, watched):
    stream = _Terminal() if watched else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "SHOW_AFTER_S", 0.0)
    said = _search(ProgressBar(Shown(quiet=quiet)))
    assert stream.getvalue() == ""
    assert said == ["static: within budget. because"] * 2


def _complete(script: str, words: list[str]) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    line = f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _onnxopt; echo "${{COMPREPLY[@]}}"'
    ended = subprocess.run(["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_options_and_words(cli):
    script = cli("completion", "bash").out
    assert _complete(script, ["onnxopt", "op"]) == ["optimize"]
    assert {"report", "init", "benchmark"} <= set(_complete(script, ["onnxopt", ""]))
    assert _complete(script, ["onnxopt", "optimize", "--max-d"]) == ["--max-drop"]
    assert _complete(script, ["onnxopt", "optimize", "m.onnx", "--goal", ""]) == ["latency", "size"]
    assert _complete(script, ["onnxopt", "optimize", "m.onnx", "--require", ""]) == ["proven", "likely"]
    assert _complete(script, ["onnxopt", "report", "--o"]) == ["--open", "--out", "--overwrite"]


def test_other_shells_have_scripts_too(cli):
    assert "bashcompinit" in cli("completion", "zsh").out
    fish = cli("completion", "fish").out
    assert "-n '__fish_seen_subcommand_from optimize' -l goal -x -a 'latency size'" in fish
    assert cli("completion", "tcsh").code == 2


def test_init_writes_a_file_that_works(cli, mlp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = cli("init", mlp, "--data", "digits", "--max-drop", "2pp")
    assert (ended.code, ended.err) == (0, "")
    text = Path("onnxopt.toml").read_text()
    assert tomllib.loads(text) == {"optimize": {"data": "digits", "max-drop": "2pp"}}
    assert "Figure to improve. [default: latency]" in text
    assert "X: float32" in text
    dry = cli("optimize", mlp, "--config", "onnxopt.toml", "--dry-run")
    assert dry.code == 0
    assert "2pp" in dry.out
    assert cli("init", mlp).code == 5
    assert cli("init", mlp, "--overwrite").code == 0


def test_every_line_of_the_file_is_an_option(cli, mlp, tmp_path):
    out = tmp_path / "c.toml"
    cli("init", mlp, "--data", "digits", "--out", out)
    lines = out.read_text().splitlines()
    options = [line[2:] for line in lines if line.startswith("# ") and " = " in line and "..." not in line]
    options = [line for line in options if line.split(" = ")[0].replace("-", "").isalpha()]
    assert len(options) >= 8
    out.write_text("[optimize]\ndata = 'digits'\n" + "\n".join(options) + "\n")
    assert cli("optimize", mlp, "--config", out, "--dry-run", "--out", tmp_path / "run").code == 0


def test_the_governor_is_read(tmp_path):
    assert frequency_governor(tmp_path) is None
    (tmp_path / "scaling_governor").write_text("powersave\n")
    assert frequency_governor(tmp_path) == "powersave"


def test_bench_measures_streams_and_offline(cli, mlp):
    ended = cli(
        "benchmark", mlp, mlp, "--scenario", "streams", "--streams", "2", "--seconds", "0.2", "--format", "json"
    )
    assert ended.code == 0
    assert '"streams": 2' in ended.out
    offline = cli("benchmark", mlp, "--scenario", "offline", "--seconds", "0.1")
    assert "samples/s" in offline.out
    assert " 32 " in offline.out
    assert cli("benchmark", mlp, "--streams", "2").code == 2
    assert cli("benchmark", mlp, "--scenario", "offline", "--memory").code == 2
