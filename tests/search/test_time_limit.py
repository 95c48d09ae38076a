"""The time limit, by a clock that only moves when a test moves it."""

from collections.abc import Callable
from typing import Any

import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.runtime.interrupt import TimeOver, cut_when, raise_if_interrupted
from onnxopt.search.budget import Budget
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.observer import NullObserver
from onnxopt.search.optimize import search
from onnxopt.search.settings import Settings
from onnxopt.search.trial import SearchResult, Trial, Verdict
from onnxopt.search.workers import preparation
from tests.search import fakes
from tests.search.fakes import Figures, World


class Clock:
    """Seconds, as many as were spent."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        """Work in small steps, and look at the time as real work does; less than 0 for work that does not look."""
        self.now += max(-seconds, 0)
        for _ in range(int(seconds)):
            self.now += 1
            raise_if_interrupted()


class Told(NullObserver):
    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.trials: list[Trial] = []

    def needed(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def finished(self, trial: Trial) -> None:
        self.trials.append(trial)


Costs = Callable[[str, str], float]
"""Seconds by step (build, search, holdout, timing) and candidate."""


def limited(
    figures: dict[str, Figures], limit_s: float, costs: Costs, **asked: Any
) -> tuple[SearchResult, Clock, Told]:
    """Search where steps take as long as `costs` says."""
    clock, told, world = Clock(), Told(), World(figures)
    evaluate, latency = world.evaluate, world.latency

    def scored(model: Any, part: str) -> Any:
        clock.spend(costs(part, world.name_of(model)))
        return evaluate(model, part)

    def timed(models: Any, *rest: Any, **more: Any) -> Any:
        clock.spend(costs("timing", list(models)[-1]))
        return latency(models, *rest, **more)

    def baseline(judge: Any) -> Any:
        clock.spend(costs(judge.part, "baseline"))
        return fakes.Score("baseline", world.score)

    with pytest.MonkeyPatch.context() as patch:
        world.evaluate, world.latency = scored, timed  # type: ignore[method-assign]
        fakes.install(patch, world)
        patch.setattr(fakes.FakeJudge, "baseline", _once(baseline))
        inner: Any = preparation.__dict__["Pipeline"]

        class Slow(inner):  # type: ignore[misc]
            def run(self, source: Any, context: Any) -> Any:
                built = super().run(source, context)
                clock.spend(costs("build", world.name_of(built.model)))
                return built

        patch.setattr(preparation, "Pipeline", Slow)
        settings = Settings(Budget(0.01), confidence=0.7, target="x86-vnni", time_limit_s=limit_s, **asked)
        result = search(fakes.model(), fakes.parts(), None, settings, told, deadline=Deadline(limit_s, clock=clock))
    return result, clock, told


def _once(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    known: dict[int, Any] = {}

    def found(judge: Any) -> Any:
        if id(judge) not in known:
            known[id(judge)] = function(judge)
        return known[id(judge)]

    return found


def everywhere(seconds: float, **others: float) -> Costs:
    """Return costs of `seconds` a step, but for some, such as `build_b`."""
    return lambda step, name: others.get(f"{step}_{name}", others.get(step, seconds))


TWO = {"a": Figures(speedup=2.0), "b": Figures(speedup=3.0)}


def test_a_calibration_that_takes_too_long_is_cut_and_the_best_until_then_is_proved() -> None:
    result, clock, _ = limited(TWO, 100, everywhere(1, build_b=1000))
    cut = next(t for t in result.trials if t.candidate.name == "b")
    assert cut.verdict is Verdict.FAILED
    assert cut.reason.startswith("interrupted by the time limit of 100 s")
    assert result.winner is not None
    assert result.winner.candidate.name == "a"
    assert "time limit" in result.stopped
    assert clock.now <= 100


def test_a_scoring_that_takes_too_long_is_cut() -> None:
    result, clock, _ = limited(TWO, 100, everywhere(1, search=3, search_b=1000))
    assert [t.verdict for t in result.trials] == [Verdict.WINNER, Verdict.FAILED]
    assert clock.now <= 100


def test_time_for_the_proof_is_kept_before_the_search_begins() -> None:
    result, clock, told = limited(TWO, 60, everywhere(1, search_baseline=6, holdout=12, build=15))
    assert len(told.sentences) == 1
    assert "Proof and report take about" in told.sentences[0]
    assert result.proofs
    assert clock.now <= 60


def test_a_proof_that_has_little_time_takes_fewer_samples_and_says_so() -> None:
    result, _, told = limited({"a": Figures()}, 40, everywhere(0, search_baseline=10))
    assert "of 20 hold-out samples" in told.sentences[0]
    assert result.winner is not None
    assert "; the time limit left 12 of the 20 hold-out samples" in result.reason


def test_without_time_for_the_fewest_samples_nothing_is_proved() -> None:
    result, _, _ = limited(TWO, 40, everywhere(0, search_baseline=10, timing_b=-19))
    assert result.proofs == ()
    assert result.winner is None
    assert result.reason == "no proof was finished; no time was left for a proof: b, a"


def test_a_cut_that_comes_a_little_late_leaves_time_for_the_fewest_samples() -> None:
    result, _, _ = limited(TWO, 40, everywhere(0, search_baseline=10, search_a=3, timing_b=19))
    assert result.winner is not None
    assert "the time limit left 9 of the 20" in result.reason


def test_a_limit_below_the_least_says_so_and_keeps_the_original() -> None:
    result, clock, told = limited(TWO, 30, everywhere(1, search_baseline=9, timing_baseline=15))
    assert "too little for a proof" in told.sentences[0]
    assert result.winner is None
    assert clock.now <= 30


def test_a_proof_that_takes_longer_than_predicted_is_cut_and_the_original_kept() -> None:
    result, clock, _ = limited(TWO, 60, everywhere(1, holdout=1000))
    assert result.winner is None
    assert result.proofs == ()
    assert "cut at the time limit" in result.reason
    assert set(result.unproved) == {"a", "b"}
    assert clock.now <= 61


def test_a_further_proof_that_is_cut_leaves_the_proven_one_before_it() -> None:
    lost = Figures(speedup=3.0, holdout_drop=0.9)
    figures = {"a": Figures(speedup=2.0), "b": lost}
    result, clock, _ = limited(figures, 60, everywhere(1, timing_b=20, holdout=4))
    assert [p.candidate for p in result.proofs] == ["a"]
    assert result.winner is not None
    assert result.unproved == ("b",)
    assert clock.now <= 61


def test_a_baseline_that_takes_longer_than_the_limit_is_one_clear_error() -> None:
    with pytest.raises(NativeError, match="ONX408: the time limit is too short to measure the baseline"):
        limited(TWO, 60, everywhere(1, search_baseline=1000))


def test_the_time_limit_of_a_trial_holds_for_the_baseline_too() -> None:
    with pytest.raises(NativeError, match=r"ONX406.*baseline took more than 20 s"):
        limited(TWO, 1000, everywhere(1, search_baseline=500), trial_timeout_s=20)


def test_without_a_limit_nothing_is_kept_or_said() -> None:
    told = Told()
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, World(TWO))
        result = search(fakes.model(), fakes.parts(), None, Settings(target="x86-vnni"), told)
    assert told.sentences == []
    assert result.stopped == ""


def test_what_is_cut_ends_with_time_over_and_the_next_goes_on() -> None:
    with pytest.raises(TimeOver), cut_when(lambda: True):
        raise_if_interrupted()
    raise_if_interrupted()


def test_where_nothing_is_to_be_proved_yet_the_time_of_a_proof_is_left_to_candidates() -> None:
    """A whole proof takes 86 seconds, the smallest one 37."""
    costs = everywhere(1, search_baseline=20, build_a=120)
    result, clock, told = limited({"a": Figures(speedup=2.0)}, 200, costs)
    assert "take about 86 s (at least 37 s)" in told.sentences[0]
    assert result.winner is not None
    assert clock.now <= 200


def test_from_the_first_candidate_within_budget_on_it_is_reserved() -> None:
    costs = everywhere(1, search_baseline=20, build_a=20, build_b=120)
    result, clock, _ = limited(TWO, 200, costs)
    assert [trial.verdict for trial in result.trials] == [Verdict.WINNER, Verdict.FAILED]
    assert result.proofs[0].drop.n > 0
    assert clock.now <= 200
