"""The use case, by figures that are made up: what is chosen is written, and loads."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import onnxopt
from onnxopt.errors import FileError, UsageError
from onnxopt.measure.forms.figures import Measured
from onnxopt.measure.forms.load import this_machine
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.statistics import Interval
from onnxopt.tasks.session import tune

MODEL = Path(__file__).parents[3] / "models" / "digits_resnet.onnx"


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copy(MODEL, tmp_path / "model.onnx"))


@pytest.fixture
def clock(monkeypatch):
    """Make up figures: the ratio is 2 for each choice that is named, 1 for any other; `chosen` is 2 as well."""
    better: set[str] = set()
    seen = []

    def measured(goal, deployments):
        seen.append((goal, list(deployments)))
        found = {}
        for number, name in enumerate(deployments):
            ratio = 2.0 if name in better | {"chosen"} else 1.0
            interval = Interval(ratio - 0.1, ratio, ratio + 0.1) if number else None
            found[name] = Measured(1 / ratio, interval)
        return found

    def clock_of(inputs, seconds, processes, seed):
        measured.inputs, measured.processes = inputs, processes
        return measured

    measured.better, measured.seen = better, seen
    monkeypatch.setattr(tune, "MachineClock", clock_of)
    return measured


def test_the_chosen_settings_are_written_beside_the_model_and_load(model, clock):
    clock.better |= {"no arena"}
    done = onnxopt.tune_session(model, "digits", threads=1)
    assert (done.file, done.model, done.form) == (model.with_name("session.json"), model, "onnx")
    assert not done.settings.arena
    assert (done.gain.ratio, done.gain.unit, done.reason, done.change) == (2.0, "ms", "", 0)
    assert done.content.made_for is None
    options = onnxopt.load_session(model.parent).get_session_options()
    assert (options.enable_cpu_mem_arena, options.intra_op_num_threads) == (False, 1)
    assert len(clock.inputs) > 1
    assert "<table" in done._repr_html_()


def test_a_prepacked_file_is_written_for_this_machine_alone(model, clock):
    clock.better |= {"prepacked file"}
    done = onnxopt.tune_session(model, "digits", goal="cold-start", threads=1)
    assert done.model == model.with_name("model.session.onnx")
    assert done.form == "prepacked"
    assert done.content.made_for == this_machine()
    made = {path.name for path in model.parent.iterdir()}
    assert made == {"model.onnx", "session.json", "model.session.onnx", "model.session.onnx.data"}
    x = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    original = Session(model, Runtime())
    (expected,) = original.run({original.input_names[0]: x})
    (found,) = onnxopt.load_session(model.parent).run(None, {original.input_names[0]: x})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_time_of_a_run_is_stated_where_it_is_not_the_goal(model, clock):
    clock.better |= {".ort file"}
    done = onnxopt.tune_session(model, "digits", goal="memory", threads=1)
    assert clock.seen[-1] == ("latency", ["default", "chosen"])
    assert done.content.latency.ratio == 2.0
    assert done.form == "ort"
    assert "A run with them takes" in str(done.document.blocks)


def test_where_nothing_is_better_the_default_is_written(model, clock):
    done = onnxopt.tune_session(model, "digits", threads=2, goal="throughput", processes=3)
    assert (done.gain, done.content.latency, done.form) == (None, None, "onnx")
    assert done.reason == "no choice is significantly better"
    assert done.settings.threads == 2
    assert clock.processes == 3
    assert onnxopt.load_session(done.file).get_session_options().intra_op_num_threads == 2


def test_files_that_exist_are_refused_before_anything_is_measured(model, clock):
    for name, goal in {"session.json": "latency", "model.session.ort": "memory"}.items():
        model.with_name(name).write_text("{}")
        with pytest.raises(FileError, match="ONX502"):
            onnxopt.tune_session(model, "digits", goal=goal, threads=1)
        onnxopt.tune_session(model, "digits", goal=goal, threads=1, overwrite=True)
        model.with_name("session.json").unlink()
    assert clock.seen


def test_an_interrupted_search_leaves_nothing(model, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "MachineClock", lambda *args: stop)
    with pytest.raises(KeyboardInterrupt):
        onnxopt.tune_session(model, "digits", goal="memory", threads=1)
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": "latenzy"}, r"ONX102.*Did you mean 'latency'"),
        ({"threads": 0}, r"ONX101.*\[threads\]"),
        ({"seconds": 0}, r"ONX101.*\[seconds\]"),
        ({"processes": 2}, r"ONX112.*\[processes\]"),
        ({"sekonds": 1}, r"ONX102.*Did you mean 'seconds'"),
    ],
)
def test_values_that_make_no_sense_are_refused(model, options, message):
    with pytest.raises(UsageError, match=message):
        onnxopt.tune_session(model, "digits", **options)


def test_the_file_lies_beside_the_model(model, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match=r"ONX101.*beside its model"):
        onnxopt.tune_session(model, "digits", out=tmp_path / "other" / "session.json")
    with pytest.raises(FileError, match="ONX501"):
        onnxopt.tune_session(tmp_path / "none.onnx", "digits")
    odd = model.rename(tmp_path / "a:b.onnx")
    with pytest.raises(UsageError, match=r"ONX101.*cannot name"):
        onnxopt.tune_session(odd, "digits")
