"""A search whose candidates are timed on a board: accuracy from here, latency from there."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import onnxopt
from onnxopt import model_file
from onnxopt.catalog import parse
from onnxopt.errors import NativeError, UsageError
from onnxopt.measure.runtime.interrupt import TimeOver, cut_when
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import signature_of
from onnxopt.options.search import SearchOptions
from onnxopt.run.job import prepare
from onnxopt.samples import open_samples
from onnxopt.search import baseline
from onnxopt.search.optimize import search
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, Verdict
from onnxopt.search.workers import device
from onnxopt.search.workers.device import DeviceTimer, target_on
from onnxopt.search.workers.runner import TaskInputs
from onnxopt.target import detect
from tests.measure.device.ssh_server import server
from tests.search import fakes
from tests.search.fakes import Figures, World

__all__ = ["server"]

MODEL = Path(__file__).parents[3] / "models" / "digits_mlp.onnx"
HERE = f"local://{sys.executable}"


@pytest.fixture
def work():
    pytest.importorskip("sklearn")
    samples = open_samples("digits", signature_of(model_file.load(MODEL)), limit=16)
    feeds = next(iter(samples.with_batch_size(1)))
    return TaskInputs(samples, samples, None, "auto", Runtime(), 0, (feeds, feeds), feeds)


def test_a_board_times_models_over_ssh(server, work, monkeypatch):
    monkeypatch.setattr(device, "place_of", lambda _: server.board())
    timer, model = DeviceTimer("ssh://board", work), model_file.load(MODEL)
    found = timer.latency({"baseline": model, "a": model}, 0.1)
    assert list(found) == ["baseline", "a"]
    assert found["baseline"].speedup is None
    assert found["a"].inputs == 2
    assert (found["a"].speedup is None) == bool(found["a"].unsure)
    # Both outputs, the class and its probabilities, of the timed inputs and of all samples.
    assert "where 36 of 36 predictions are those of this machine" in timer.words("a")
    before = timer.results["a"]
    timer.latency({"baseline": model, "a": model}, 0.1, hot=True)
    assert timer.results["a"] is before


def test_a_board_that_is_lost_on_the_way_ends_the_search(work, monkeypatch):
    timer, model = DeviceTimer(HERE, work), model_file.load(MODEL)

    def gone(kit, place):
        raise NativeError("ONX404", "the device cannot be reached")

    monkeypatch.setattr(device, "run_on_board", gone)
    with pytest.raises(NativeError, match=r"ONX407.*--resume"):
        timer.latency({"baseline": model}, 0.1)


def test_emulated_boards_time_nothing(work, monkeypatch):
    timer, model = DeviceTimer(HERE, work), model_file.load(MODEL)
    read = device.read_result
    monkeypatch.setattr(device, "read_result", lambda path: replace(read(path), refused="qemu"))
    with pytest.raises(NativeError, match=r"ONX405.*qemu"):
        timer.latency({"baseline": model}, 0.1)


def test_a_time_limit_ends_the_run_on_the_device(work):
    timer, model = DeviceTimer(HERE, work), model_file.load(MODEL)
    with pytest.raises(TimeOver), cut_when(lambda: True):
        timer.latency({"baseline": model}, 60)


class Board:
    """A board on which every model is as fast as its figures say."""

    def __init__(self, address: str, work: TaskInputs) -> None:
        self.world = World(BOARD)
        self.results = dict.fromkeys(BOARD)

    def latency(self, models, seconds, *, hot=False):
        return self.world.latency(models, seconds=seconds)

    def words(self, name):
        return f"{name} was timed on a board"


BOARD = {"a": Figures(speedup=0.5), "b": Figures(speedup=3)}


def test_the_figures_of_the_board_decide(monkeypatch):
    world = World({"a": Figures(speedup=3), "b": Figures(speedup=0.5)})
    fakes.install(monkeypatch, world)
    monkeypatch.setattr(baseline, "DeviceTimer", Board)
    result = search(fakes.model(), fakes.parts(), settings=Settings(device="ssh://board"))
    assert {t.candidate.name: t.verdict for t in result.trials} == {"a": Verdict.SLOWER, "b": Verdict.WINNER}
    assert world.timed == []
    assert result.reason.endswith("b was timed on a board")
    assert "board" not in search(fakes.model(), fakes.parts()).reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "board"}, r"ONX101.*ssh://user@board"),
        ({"device": "ssh://board", "bench": "bench-arm64"}, "ONX109.*bench"),
        ({"device": "ssh://board", "runtime": Runtime(optimization="basic")}, "ONX109.*runtime"),
    ],
)
def test_what_a_device_cannot_do_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        Settings(**options)
    Settings(device="ssh://board", runtime=Runtime(threads=2))


@pytest.mark.slow
def test_a_run_has_the_record_of_its_device(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    dynamic = Candidate("narrow", parse("prune-channels{ratio=0.5}"))
    monkeypatch.setattr("onnxopt.search.optimize.first_candidates", lambda: (dynamic,))
    run = onnxopt.optimize(
        MODEL, "digits", max_drop="90pp", latency_s=0.1, device=HERE, out=tmp_path / "run", limit=400
    )
    assert run.record.settings.device == HERE
    assert HERE in (run.folder / "report.html").read_text()
    assert run.record.status in ("won", "kept-original")
    assert len(run.record.devices) == (run.record.status == "won")
    if run.won:
        (there,) = run.record.devices
        assert there.models[1].name == "narrow"
        assert there.models[1].sha256 == run.record.best[0].sha256
        assert "latency was measured on" in run.record.reason


def test_the_integer_types_are_those_of_the_board_unless_a_target_is_named(monkeypatch):
    pytest.importorskip("sklearn")
    answers = iter(["aarch64\nprocessor : 0\nFeatures\t: fp asimd asimddp\n", "arm64\n"])
    monkeypatch.setattr(device, "require_packages", lambda place: next(answers))
    dotprod = prepare(MODEL, "digits", SearchOptions(device="ssh://board", limit=40)).settings.target
    assert dotprod == "arm64-dotprod"
    assert prepare(MODEL, "digits", SearchOptions(device="ssh://board", limit=40)).settings.target == "arm64-neon"
    named = SearchOptions(device="ssh://board", target="x86-avx2", limit=40)
    assert prepare(MODEL, "digits", named).settings.target == "x86-avx2"


def test_a_device_states_its_processor():
    assert target_on(HERE) == detect()
