"""A clock that is unsure of a candidate makes it neither win nor lose."""

from dataclasses import replace

import pytest

from onnxopt.measure.statistics import Interval
from onnxopt.options.search import Goal
from onnxopt.search import optimize, stages
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.optimize import search
from onnxopt.search.trial import SearchResult, Verdict
from onnxopt.search.trials import Trials
from tests.search import fakes
from tests.search.fakes import Figures, World


def searched(monkeypatch: pytest.MonkeyPatch, **figures: Figures) -> SearchResult:
    world = World(figures)
    fakes.install(monkeypatch, world)
    return search(fakes.model(), fakes.parts())


def verdicts(result: SearchResult) -> dict[str, Verdict]:
    return {trial.candidate.name: trial.verdict for trial in result.trials}


def test_an_unsure_candidate_is_timed_again_and_can_win(monkeypatch: pytest.MonkeyPatch) -> None:
    result = searched(monkeypatch, a=Figures(speedup=3, unsure=1), b=Figures(speedup=2))
    assert result.winner is not None
    assert result.winner.candidate.name == "a"


def test_without_another_within_budget_it_is_timed_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows begins with it, and its proof is not left to the end of the time."""
    known = list[tuple[str, int]]()

    def noted(trials: Trials) -> None:
        known.append(("" if trials.leader is None else trials.leader.candidate.name, len(proven)))

    proven = list[str]()
    prove = optimize.prove_first
    monkeypatch.setattr(optimize, "prove_first", lambda trials: trials.leader and (proven.append("a") or prove(trials)))
    monkeypatch.setattr(stages, "place_layers", noted)
    searched(monkeypatch, a=Figures(speedup=3, unsure=1))
    assert known == [("a", 1)]


def test_one_that_stays_unsure_neither_wins_nor_counts_as_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    result = searched(monkeypatch, a=Figures(speedup=3, unsure=99))
    assert result.winner is None
    assert verdicts(result)["a"] is Verdict.UNSURE
    assert "busy" in result.reason
    assert "timed twice" in result.trials[0].reason


def test_a_proof_that_the_clock_is_unsure_of_is_timed_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Figures(speedup=3, unsure=0)
    world = World({"a": made})
    fakes.install(monkeypatch, world)
    plain, world_timed = world.latency, list[str]()

    def unsure_in_proof(models, *args, seconds, **options):  # type: ignore[no-untyped-def]
        world_timed.append("proof" if seconds > 2 else "search")
        if world_timed.count("proof") == 1 and seconds > 2:
            world.figures = {"a": Figures(speedup=3, unsure=99)}
        else:
            world.figures = {"a": made}
        return plain(models, *args, seconds=seconds, **options)

    monkeypatch.setattr(fakes.runner, "measure_latency", unsure_in_proof)
    result = search(fakes.model(), fakes.parts())
    assert world_timed.count("proof") == 2
    assert verdicts(result)["a"] is Verdict.WINNER


def test_a_proof_that_the_clock_stays_unsure_of_ships_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"a": Figures(speedup=3)})
    fakes.install(monkeypatch, world)
    plain = world.latency

    def unsure_in_proof(models, *args, seconds, **options):  # type: ignore[no-untyped-def]
        found = plain(models, *args, seconds=seconds, **options)
        return {name: replace(one, speedup=None, unsure="busy") if seconds > 2 else one for name, one in found.items()}

    monkeypatch.setattr(fakes.runner, "measure_latency", unsure_in_proof)
    monkeypatch.setattr("onnxopt.search.optimize.prove_first", lambda trials: None)
    result = search(fakes.model(), fakes.parts())
    assert result.winner is None
    assert verdicts(result)["a"] is Verdict.UNSURE
    assert not any(proof.accepted for proof in result.proofs)
    assert "the latency in the proof is unsure: busy" in result.reason


BAR = Acceptance(Goal.LATENCY, 0.01, 0.7, 1000)


@pytest.mark.parametrize(
    ("speedup", "drop", "verdict"),
    [
        (None, 0.0, Verdict.UNSURE),
        (None, 0.5, Verdict.OVER_BUDGET),
        (Interval(0.8, 1.1, 1.5), 0.0, Verdict.UNSURE),
        (Interval(0.99, 1.0, 1.02), 0.0, Verdict.SLOWER),
        (Interval(0.7, 0.8, 0.9), 0.0, Verdict.SLOWER),
        (Interval(1.1, 1.3, 1.5), 0.0, Verdict.WITHIN),
    ],
)
def test_the_verdict_by_what_the_clock_says(speedup: Interval | None, drop: float, verdict: Verdict) -> None:
    world = World({"a": Figures(drop=drop)})
    found = world.drop(fakes.Score("a", 0.9), "search")
    assert BAR.verdict(found, speedup, 900, "busy")[0] is verdict


def test_without_a_speed_up_no_finalist_is_inside() -> None:
    found = World({"a": Figures(drop=0.0)}).drop(fakes.Score("a", 0.9), "search")
    assert BAR.inside(found, Interval(1.1, 1.3, 1.5), 900)
    assert not BAR.inside(found, None, 900)
    assert not replace(BAR, goal=Goal.SIZE).inside(found, None, 900)
