"""Candidates built in separate processes: the same figures, and what goes wrong ends alone."""

import multiprocessing
import os
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import to_bytes
from onnxopt.pipeline import Applied, Context, Effect, Pass
from onnxopt.samples import Samples
from onnxopt.search.bets import TrialOrder
from onnxopt.search.budget import Budget
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.optimize import search
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, Verdict
from onnxopt.search.workers import runner
from onnxopt.search.workers.executor import Isolated
from onnxopt.search.workers.runner import LocalRunner, RemoteRunner, TaskInputs, judge_of
from onnxopt.target import target_of
from tests.search.fakes import model, parts
from tests.search.inline import Inline

DYNAMIC = Candidate("dynamic", parse("quantize-dynamic"))


@dataclass(frozen=True)
class Misbehave(Pass):
    """Ends its process, or never ends."""

    name: ClassVar[str] = "misbehave"
    effect: ClassVar[Effect] = Effect.LOSSY
    how: str = "crash"

    def apply(self, model, context: Context) -> Applied:
        """Do what no pass should."""
        if self.how == "crash":
            os.abort()
        time.sleep(60)
        return Applied(model)


def work() -> TaskInputs:
    here = parts()
    feeds = next(iter(here.search))
    return TaskInputs(here.calibration, here.search, None, "x86-vnni", Runtime(), 0, (feeds,), feeds)


def here() -> LocalRunner:
    needed = work()
    context = Context(target_of("x86-vnni"), needed.calibration)
    return LocalRunner(model(), context, judge_of(model(), needed.search, None, Runtime(), seed=0), needed)


@pytest.mark.parametrize("executor", [Inline(), Isolated(timeout_s=60)], ids=["inline", "isolated"])
def test_where_it_is_built_makes_no_difference(executor) -> None:
    apart, ours = RemoteRunner(model(), work(), executor), here()
    made, same = apart.build(DYNAMIC), ours.build(DYNAMIC)
    assert to_bytes(made.model) == to_bytes(same.model)
    assert [step.edits for step in made.steps] == [step.edits for step in same.steps]
    score, expected = apart.score(DYNAMIC, made.model), ours.score(DYNAMIC, same.model)
    np.testing.assert_array_equal(score.rows, expected.rows)
    assert set(apart.latency({"a": model(), "b": made.model}, 0.02)) == {"a", "b"}


def test_nothing_to_do_is_reported_with_the_reason() -> None:
    idle = Candidate("idle", parse("quantize-weights{least=1000000000}"))
    made = RemoteRunner(model(), work(), Inline()).build(idle)
    assert not made.steps[-1].edits
    assert made.steps[-1].skipped


@pytest.mark.parametrize(("how", "why"), [("crash", "SIGABRT"), ("hang", "took too long")])
def test_a_trial_that_dies_is_recorded_and_the_search_goes_on(how: str, why: str, monkeypatch) -> None:
    from onnxopt.search import optimize

    plan = (Candidate("bad", (Misbehave(how=how),)), DYNAMIC)
    monkeypatch.setattr(optimize, "first_candidates", lambda: plan)
    monkeypatch.setattr(optimize, "order_of", lambda candidates, _: TrialOrder(candidates, (), ()))
    settings = Settings(Budget(0.5), target="x86-vnni", latency_s=0.02, trial_timeout_s=12 if how == "hang" else 60)
    result = search(model(), parts(), None, settings)
    bad, good = result.trials[:2]
    assert bad.verdict is Verdict.FAILED
    assert "ONX406" in bad.reason
    assert why in bad.reason
    assert good.candidate == DYNAMIC
    if how == "crash":  # on a busy machine the other takes as long as the limit, too
        assert good.verdict is not Verdict.FAILED


def test_samples_that_cannot_be_sent_are_refused_before_the_search() -> None:
    class Local:
        name, labels, stacks = "local", None, True

        def __len__(self):
            return 8

        def read(self, index):
            return {"x": np.zeros(8, np.float32)}

    needed = work()
    stuck = TaskInputs(Samples.of(Local()), needed.search, None, "x86-vnni", Runtime(), 0, needed.inputs, needed.hot)
    with pytest.raises(UsageError, match="ONX116: these samples or this metric cannot be sent"):
        RemoteRunner(model(), stuck, Inline())


def test_what_runs_apart_is_given_up_when_the_time_is_over() -> None:
    def check() -> None:
        if time.monotonic() - start > 1:
            raise TimeOver

    start = time.monotonic()
    apart = RemoteRunner(model(), work(), Isolated(memory_bytes=4 << 30), check=check)
    with pytest.raises(TimeOver):
        apart.build(Candidate("slow", (Misbehave(how="hang"),)))
    assert time.monotonic() - start < 30
    while multiprocessing.active_children():  # killed, and soon gone
        assert time.monotonic() - start < 60
        time.sleep(0.01)


def test_losses_measured_apart_look_at_the_clock() -> None:
    def check() -> None:
        raise TimeOver

    with pytest.raises(TimeOver):
        RemoteRunner(model(), work(), Inline(), check=check).losses((), parse("quantize-dynamic"))


def test_the_search_does_not_lengthen_an_unsure_measurement_within_its_time_limit(monkeypatch):
    asked = {}
    monkeypatch.setattr(runner, "measure_latency", lambda *given, **options: asked.update(options) or {})
    here().latency({"baseline": model()}, 0.5)
    assert asked["lengthen"] is False
    assert asked["seconds"] == 0.5
