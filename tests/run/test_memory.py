"""A whole search holds no large weights in memory, and no session, from one candidate to the next."""

import gc
import itertools
import tracemalloc
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt.errors import NativeError
from onnxopt.measure.latency import Latency
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.statistics import Interval
from onnxopt.model_file import held
from onnxopt.model_file.proto import weights
from onnxopt.record.analysis import AnalysisRecord
from onnxopt.run import folder, recorder
from onnxopt.run.folder import RunFolder
from onnxopt.search import optimize
from onnxopt.search.bets import TrialOrder
from onnxopt.search.candidates import first_candidates
from onnxopt.search.observer import NullObserver
from onnxopt.search.proof import holdout
from onnxopt.search.trial import Trial, Verdict
from onnxopt.search.workers import runner
from tests.builders import F, Net

MODEL = Path(__file__).parents[2] / "models" / "digits_lstm.onnx"
FEW = ("dynamic", "static-minmax", "static-percentile")
LARGE = 4000


class _Since:
    """Models and sessions that were made since; those of other tests stay out, and alive, so that no new one takes
    their place in memory.
    """

    def __init__(self) -> None:
        gc.collect()
        self._before = [o for o in gc.get_objects() if isinstance(o, ir.Model | Session)]
        self._ids = set(map(id, self._before))

    def models(self) -> list[ir.Model]:
        return [o for o in gc.get_objects() if isinstance(o, ir.Model) and id(o) not in self._ids]

    def sessions(self) -> int:
        return sum(isinstance(o, Session) and id(o) not in self._ids for o in gc.get_objects())


class Census(NullObserver):
    """Counts at the end of each candidate what is alive."""

    def __init__(self) -> None:
        self._since = _Since()
        self.in_memory = list[list[str]]()
        self.sessions = list[int]()
        self.models = list[int]()
        self.verdicts = list[Verdict]()

    def finished(self, trial: Trial) -> None:
        gc.collect()
        models = self._since.models()
        self.models.append(len(models))
        tensors = {id(t): t for model in models for t in weights(model) if t.nbytes >= LARGE}
        self.in_memory.append([repr(t) for t in tensors.values() if not isinstance(t, held._Stored)])
        self.sessions.append(self._since.sessions())
        self.verdicts.append(trial.verdict)


class _Cut:
    """Lets the first measurement, that of the baseline, pass, and cuts the others."""

    def __init__(self, whole, cut) -> None:
        self._calls = itertools.chain([whole], itertools.repeat(cut))

    def __call__(self, *given, **named):
        return next(self._calls)(*given, **named)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a few candidates, with made-up latencies; treat the small model as a large one."""

    def measure(models, *_, **__):
        speedup = Interval(1.9, 2.0, 2.1)
        return {
            name: Latency(1.0, 1, 1, 9, 1, 1, None if name == "baseline" else speedup, None, 1, Interval(1, 1, 1))
            for name in models
        }

    monkeypatch.setattr(runner, "measure_latency", measure)
    monkeypatch.setattr(optimize, "first_candidates", lambda: tuple(c for c in first_candidates() if c.name in FEW))
    monkeypatch.setattr(optimize, "order_of", lambda candidates, _: TrialOrder(candidates, (), ()))
    monkeypatch.setattr(held, "IN_MEMORY_BYTES", LARGE)
    monkeypatch.setattr(held, "LEAST_STORED_BYTES", LARGE)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("place", ["a candidate", "the proof"])
def test_work_that_was_cut_leaves_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    alive, since = list[int](), _Since()

    class Count(NullObserver):
        def finished(self, trial: Trial) -> None:
            alive.append(since.sessions())

    def cut(*given, **__):
        model = next(iter(given[0].values())) if place == "a candidate" else given[2]
        circle = [Session(model, Runtime())]
        circle.append(circle)  # as the traceback of an error does
        raise NativeError("ONX401", "it was cut")

    def explained(*_, **__):
        alive.append(since.sessions())
        return AnalysisRecord()

    candidates = _Cut(runner.measure_latency, cut)
    if place == "a candidate":
        monkeypatch.setattr(runner, "measure_latency", candidates)
    else:
        monkeypatch.setattr(holdout, "_timed", _Cut(cut, cut))
    monkeypatch.setattr(recorder, "analyze", explained)
    options = {"max_drop": "5pp", "latency_s": 0.02, "limit": 120, "target": "x86-vnni"}
    gc.disable()  # else it depends on chance
    try:
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run", observer=Count(), **options)
    finally:
        gc.enable()
    assert len(alive) > len(FEW)
    assert alive == [0] * len(alive)


@pytest.mark.usefixtures("_quick")
def test_a_search_holds_neither_weights_nor_sessions(tmp_path: Path) -> None:
    found = Census()
    options = {"max_drop": "5pp", "latency_s": 0.02, "limit": 120, "target": "x86-vnni"}
    onnxopt.optimize(MODEL, "digits", out=tmp_path / "run", observer=found, **options)
    assert len(found.verdicts) >= len(FEW)
    assert Verdict.WITHIN in found.verdicts
    assert found.in_memory == [[]] * len(found.verdicts)
    assert found.sessions == [0] * len(found.verdicts)
    # The baseline, its simplified form, the leader, the candidate itself and as it ships; no more with more candidates.
    assert max(found.models) <= 5


def test_the_baseline_is_copied_to_the_folder_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(0)
    net.node("MatMul", "x", net.weight(2000, 1000), out="y")
    path = tmp_path / "m.onnx"
    onnx.save(net.proto([("x", F, ["batch", 2000])], [("y", F, ["batch", 1000])]), path)
    out = RunFolder(tmp_path / "run", overwrite=False)
    out.begin()
    monkeypatch.setattr(folder, "_is_loaded", lambda _: True)
    unread = ir.Model(ir.Graph([], [], nodes=[]), ir_version=8)
    tracemalloc.start()
    (best,) = out.save_best(unread, (), path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert best.read_bytes() == path.read_bytes()
    assert peak < path.stat().st_size / 2
