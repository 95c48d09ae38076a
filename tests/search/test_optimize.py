"""The search keeps its promise whatever the measurements are."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.errors import ModelError, NativeError, UsageError
from onnxopt.model_file import to_bytes
from onnxopt.options.search import Goal
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.search import optimize, stages
from onnxopt.search.acceptance import MOST_PROOFS, MOST_UNPROVEN
from onnxopt.search.budget import Budget
from onnxopt.search.candidates import first_candidates, placed, static_pass
from onnxopt.search.limits.stop_target import StopTarget
from onnxopt.search.optimize import search
from onnxopt.search.proof import proving
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, SearchResult, Trial, Verdict
from tests.search import fakes
from tests.search.fakes import Figures, Recorder, World


def found(
    figures: Mapping[str, Figures],
    *,
    limit: float = 0.01,
    goal: Goal = Goal.LATENCY,
    observer: Recorder | None = None,
    world: World | None = None,
) -> tuple[SearchResult, World]:
    world = world or World(figures)
    settings = Settings(Budget(limit), goal=goal, confidence=0.7, target="x86-vnni")
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, world)
        return search(fakes.model(), fakes.parts(), None, settings, observer), world


def verdicts(result: SearchResult) -> dict[str, Verdict]:
    return {t.candidate.name: t.verdict for t in result.trials}


ORIGINAL = to_bytes(fakes.model())
PROVABLE = 0.49
"""A budget that 20 hold-out samples can prove: the first candidate inside it is proved early."""
DROPS = st.sampled_from([-0.02, 0.0, 0.009, 0.01, 0.011, 0.5, float("inf"), float("nan")])
SPEEDS = st.sampled_from([0.1, 0.95, 1.0, 1.05, 1.2, 1.21, 4.0])
ADVERSARY = st.builds(
    Figures,
    drop=DROPS,
    speedup=SPEEDS,
    spread=st.sampled_from([0.0, 0.04, 0.3]),
    holdout_drop=st.none() | DROPS,
    holdout_speedup=st.none() | SPEEDS,
    confidence=st.sampled_from([0.0, 0.69, 0.7, 0.71, 1.0]),
    broken=st.booleans(),
    bytes_saved=st.sampled_from([-1, 0, 1, 500]),
    error=st.sampled_from([None, None, None, ModelError("ONX304", "no"), NativeError("ONX401", "no")]),
)


@given(
    st.dictionaries(st.sampled_from("abcde"), ADVERSARY, min_size=1),
    st.sampled_from(Goal),
    st.sampled_from([0.01, PROVABLE]),
)
def test_nothing_outside_the_limits_is_ever_returned(figures: dict[str, Figures], goal: Goal, limit: float) -> None:
    result, world = found(figures, goal=goal, limit=limit)
    assert set(verdicts(result)) == set(figures)
    assert all(t.reason for t in result.trials)
    assert result.reason
    name = world.name_of(result.model)
    if name == "baseline":
        assert result.winner is None
        assert to_bytes(result.model) == ORIGINAL
        return
    assert result.winner is not None
    assert result.winner.candidate.name == name
    won = figures[name]
    for drop in (won.drop, won.drop if won.holdout_drop is None else won.holdout_drop):
        assert drop <= limit
    for speedup in (won.speedup, won.speedup if won.holdout_speedup is None else won.holdout_speedup):
        assert speedup - won.spread > 1 if goal is Goal.LATENCY else speedup + won.spread >= 1
    assert won.bytes_saved >= 0
    assert goal is Goal.LATENCY or won.bytes_saved > 0
    assert not won.broken
    assert won.error is None
    assert won.confidence >= 0.7
    assert len({name for part, name in world.judged if part == "holdout"}) <= 1 + MOST_PROOFS
    assert list(verdicts(result).values()).count(Verdict.WINNER) == 1
    assert [p.candidate for p in result.proofs if p.accepted] == [name]


@given(st.dictionaries(st.sampled_from("abcde"), ADVERSARY, min_size=1))
def test_only_what_the_search_part_admits_is_proved(figures: dict[str, Figures]) -> None:
    result, world = found(figures)
    for part, name in world.judged:
        if part == "holdout":
            made = figures[name]
            assert made.drop <= 0.01
            assert made.speedup - made.spread > 1
            assert made.bytes_saved >= 0
    assert len({t.candidate.name for t in result.trials}) == len(result.trials)


def test_the_fastest_inside_the_budget_wins() -> None:
    result, _ = found({"a": Figures(speedup=1.5), "b": Figures(speedup=3), "c": Figures(speedup=9, drop=0.02)})
    assert verdicts(result) == {"a": Verdict.WITHIN, "b": Verdict.WINNER, "c": Verdict.OVER_BUDGET}
    assert "b is the best of 3" in result.reason


def test_the_smallest_wins_where_size_is_the_goal() -> None:
    figures = {"a": Figures(bytes_saved=100, speedup=9), "b": Figures(bytes_saved=600, speedup=1.0), "c": Figures()}
    assert verdicts(found(figures, goal=Goal.SIZE)[0])["b"] is Verdict.WINNER


def test_among_equally_fast_ones_the_most_accurate_wins() -> None:
    figures = {"a": Figures(drop=0.009, speedup=2.02), "b": Figures(drop=0.001, speedup=2.0)}
    assert verdicts(found(figures)[0])["b"] is Verdict.WINNER


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chances that fall with the speed, so that several finalists are tried."""

    def chance(trial: Trial, share: float) -> tuple[float, float]:
        assert trial.latency is not None
        assert trial.latency.speedup is not None
        return (1.1 - trial.latency.speedup.value / 10,) * 2

    monkeypatch.setattr(proving, "chance_by_trial", lambda bar, holdout: chance)


@pytest.mark.usefixtures("falling")
def test_a_hold_out_failure_leaves_the_proven_finalist_before_it() -> None:
    figures = {
        "a": Figures(speedup=4, holdout_drop=0.3),
        "b": Figures(speedup=3, holdout_speedup=0.9),
        "c": Figures(speedup=2),
        "d": Figures(speedup=1.5),
    }
    result, world = found(figures)
    expected = {"a": Verdict.UNPROVEN, "b": Verdict.UNPROVEN, "c": Verdict.WINNER, "d": Verdict.WITHIN}
    assert verdicts(result) == expected
    assert [p.candidate for p in result.proofs] == ["c", "b", "a"]
    reasons = {t.candidate.name: t.reason for t in result.trials}
    assert "drops 30.00 points" in reasons["a"]
    assert "is not above 1" in reasons["b"]
    assert [name for part, name in world.judged if part == "holdout"] == ["c", "b", "a"]


@pytest.mark.usefixtures("falling")
def test_when_none_holds_the_original_is_returned_with_the_reason() -> None:
    figures = {"a": Figures(speedup=4, holdout_drop=0.3), "b": Figures(speedup=3, confidence=0.5)}
    result, _ = found(figures)
    assert result.winner is None
    assert to_bytes(result.model) == ORIGINAL
    assert result.reason.startswith("no candidate is proven on the hold-out samples; b: ")
    reason = {t.candidate.name: t.reason for t in result.trials}["b"]
    assert "50.0 %, required: 77.5 %" in reason
    assert "such samples with the same drop" not in reason, "a number that nobody can find is no advice"


@pytest.mark.parametrize(
    ("figures", "goal", "says"),
    [
        (Figures(speedup=0.9), Goal.LATENCY, "no candidate is faster"),
        (Figures(bytes_saved=0), Goal.SIZE, "no candidate is at least 1 % smaller"),
        (Figures(drop=0.5), Goal.LATENCY, "is over budget"),
        (
            Figures(error=ModelError("ONX304", "no")),
            Goal.LATENCY,
            "every candidate that changes the model failed; a: ONX304",
        ),
    ],
)
def test_the_reason_says_why_nothing_won(figures: Figures, goal: Goal, says: str) -> None:
    assert says in found({"a": figures}, goal=goal)[0].reason


@pytest.mark.parametrize("error", [ModelError("ONX306", "broken"), NativeError("ONX402", "failed")], ids=str)
def test_a_candidate_that_fails_does_not_stop_the_search(error: Exception) -> None:
    result, _ = found({"a": Figures(error=error), "b": Figures()})
    assert verdicts(result) == {"a": Verdict.FAILED, "b": Verdict.WINNER}
    assert result.trials[0].reason == str(error)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(), UsageError("ONX109", "no")], ids=repr)
def test_what_is_no_failure_of_a_candidate_passes_through(stop: BaseException) -> None:
    with pytest.raises(type(stop)):
        found({"a": Figures(error=stop), "b": Figures()})


def test_the_best_so_far_is_reported_in_order() -> None:
    speeds = {"a": 1.5, "b": 0.9, "c": 3, "d": 2, "e": 4}
    recorder = Recorder()
    result, _ = found({n: Figures(speedup=s) for n, s in speeds.items()}, observer=recorder)
    assert recorder.planned_names == list(speeds)
    assert [t.candidate.name for t in recorder.finished_trials] == list(speeds)
    assert recorder.best_names == ["a", "c", "e"]
    assert recorder.best_models[-1] == to_bytes(result.model)


def test_a_relative_budget_follows_the_score() -> None:
    world = World({"a": Figures(drop=0.0085)}, score=0.8)
    settings = Settings(Budget.parse("1%"), target="x86-vnni")
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, world)
        result = search(fakes.model(), fakes.parts(), None, settings)
    assert result.allowed_drop == pytest.approx(0.008)
    assert verdicts(result) == {"a": Verdict.OVER_BUDGET}


def test_a_trial_keeps_the_original_it_was_timed_beside() -> None:
    result, _ = found({"a": Figures(speedup=2.5), "b": Figures(speedup=0.5)})
    for trial in result.trials:
        assert trial.latency is not None
        assert trial.baseline_latency is not None
        assert trial.latency.speedup is not None
        quotient = trial.baseline_latency.p50_ms / trial.latency.p50_ms
        assert quotient == pytest.approx(trial.latency.speedup.value)


def test_drops_of_a_share_are_said_in_points() -> None:
    figures = {"a": Figures(drop=0.0667), "b": Figures(holdout_drop=0.02), "c": Figures(drop=0.004, speedup=1.5)}
    result, _ = found(figures)
    reasons = {t.candidate.name: t.reason for t in result.trials}
    assert reasons["a"] == "drops 6.67 points (budget 1.00 points)"
    assert "hold-out samples; probability of being within 1.00 points: 99.0 %, required: 77.5 %" in reasons["b"]
    assert "drops 0.40 points" in result.reason


def pruned(figures: Mapping[str, Figures], **asked: object) -> SearchResult:
    world = World(figures)
    settings = Settings(Budget(0.01), confidence=0.7, target="x86-vnni", prune=True, **asked)
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, world)
        return search(fakes.model(), fakes.parts(), None, settings, None)


def test_channels_are_removed_in_front_of_the_best_while_the_budget_holds() -> None:
    result = pruned(
        {
            "a": Figures(speedup=2.0),
            "b": Figures(speedup=1.5),
            "pruned-to-75%+a": Figures(speedup=2.5),
            "pruned-to-50%+a": Figures(speedup=3.0),
            "pruned-to-35%+a": OVER,
            "pruned-to-45%+a": OVER,
        }
    )
    tried = ["pruned-to-75%+a", "pruned-to-50%+a", "pruned-to-35%+a", "pruned-to-45%+a"]
    assert list(verdicts(result)) == ["a", "b", *tried]
    assert result.winner is not None
    assert result.winner.candidate.name == "pruned-to-50%+a"


def test_where_a_quarter_is_too_much_a_tenth_is_tried() -> None:
    over = Figures(speedup=4.0, drop=0.3, confidence=0.0)
    result = pruned({"a": Figures(), "pruned-to-75%+a": over, "pruned-to-90%+a": Figures(speedup=2.2)})
    assert list(verdicts(result)) == ["a", "pruned-to-75%+a", "pruned-to-90%+a"]
    assert result.winner is not None
    assert result.winner.candidate.name == "pruned-to-90%+a"


def test_between_a_share_that_holds_and_one_that_does_not_another_is_tried() -> None:
    over = Figures(speedup=4.0, drop=0.3, confidence=0.0)
    better = {"pruned-to-75%+a": Figures(speedup=2.5), "pruned-to-50%+a": over, "pruned-to-65%+a": Figures(speedup=3.0)}
    result = pruned({"a": Figures(), **better})
    assert list(verdicts(result)) == ["a", *better]
    assert result.winner is not None
    assert result.winner.candidate.name == "pruned-to-65%+a"


def test_without_a_winner_channels_are_removed_from_the_float_model() -> None:
    slow = Figures(speedup=0.5)
    over = Figures(speedup=4.0, drop=0.3, confidence=0.0)
    others = {"pruned-to-50%+float": over, "pruned-to-65%+float": over}
    result = pruned({"a": slow, "pruned-to-75%+float": Figures(speedup=1.3), **others})
    assert verdicts(result)["pruned-to-75%+float"] is Verdict.WINNER


def deep(figures: Mapping[str, Figures], **asked: object) -> SearchResult:
    """Search a model of many residual blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "is_deep", lambda trials: True)
        fakes.install(patch, World(figures))
        settings = Settings(Budget(0.01), confidence=0.7, target="x86-vnni", prune=True, **asked)
        return search(fakes.model(), fakes.parts(), None, settings, None)


OVER = Figures(speedup=4.0, drop=0.3, confidence=0.0)


def test_blocks_of_a_deep_model_are_removed_in_front_of_the_best_while_the_budget_holds() -> None:
    figures = {
        "a": Figures(speedup=2.0),
        "pruned-to-75%+a": OVER,
        "pruned-to-90%+a": OVER,
        "blocks-to-92%+a": Figures(speedup=2.2),
        "blocks-to-84%+a": Figures(speedup=2.4),
        "blocks-to-76%+a": OVER,
    }
    result = deep(figures)
    assert list(verdicts(result)) == list(figures)
    assert result.winner is not None
    assert result.winner.candidate.name == "blocks-to-84%+a"
    first_too_many = {name: OVER if name == "blocks-to-92%+a" else made for name, made in figures.items()}
    assert list(verdicts(deep(first_too_many))) == ["a", "pruned-to-75%+a", "pruned-to-90%+a", "blocks-to-92%+a"]
    assert "blocks-to-92%+a" not in verdicts(pruned(figures))


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (False, ["remove_channels", "choose_bits", "remove_blocks", "mix_techniques"]),
        (True, ["reduce_and_train", "choose_bits", "mix_techniques"]),
    ],
)
def test_stages_that_gain_most_for_their_time_come_first(monkeypatch, train: bool, expected: list[str]) -> None:
    order: list[str] = []
    for name in ("remove_channels", "choose_bits", "remove_blocks", "mix_techniques"):
        monkeypatch.setattr(stages, name, lambda trials, name=name: order.append(name))
    monkeypatch.setattr(optimize, "reduce_and_train", lambda trials: order.append("reduce_and_train"))
    pruned({"a": Figures()}, train=train)
    assert order == expected


def limited(figures: Mapping[str, Figures], **asked: object) -> SearchResult:
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, World(figures))
        settings = Settings(Budget(0.01), confidence=0.7, target="x86-vnni", **asked)
        return search(fakes.model(), fakes.parts(), None, settings, None)


def test_no_candidate_is_started_after_the_time_limit() -> None:
    result = limited({"a": Figures(), "b": Figures()}, time_limit_s=1e-9)
    assert result.trials == ()
    assert "time limit" in result.stopped
    assert result.winner is None
    assert limited({"a": Figures(), "b": Figures()}, time_limit_s=1e9).stopped == ""


def test_the_search_ends_when_the_aim_is_reached() -> None:
    figures = {"a": Figures(speedup=1.5), "b": Figures(speedup=2.5), "c": Figures(speedup=4.0)}
    result = limited(figures, aim=StopTarget.parse("latency", "0.5x"))
    assert list(verdicts(result)) == ["a", "b"]
    assert result.aim_reached is True
    assert "b reached the target latency" in result.stopped
    missed = limited(figures, aim=StopTarget.parse("latency", "0.1x"))
    assert (missed.aim_reached, missed.stopped) == (False, "")
    assert missed.winner is not None
    assert limited(figures).aim_reached is None


def test_an_aim_that_does_not_hold_on_the_hold_out_part_is_not_reached() -> None:
    result = limited({"a": Figures(speedup=2.5, holdout_speedup=1.5)}, aim=StopTarget.parse("latency", "0.5x"))
    assert result.winner is not None
    assert result.aim_reached is False


def test_layers_of_the_best_static_candidate_are_placed() -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World({"a": Figures(speedup=1.5), "b": Figures(speedup=2.0), "b-placed": Figures(speedup=2.5)})
        fakes.install(patch, world)
        patch.setattr(stages, "static_pass", lambda candidate: QuantizeStatic())
        patch.setattr(stages, "placed", lambda candidate: Candidate("b-placed", fakes.named("b-placed")))
        result = search(fakes.model(), fakes.parts(), None, Settings(Budget(0.01), confidence=0.7), None)
    assert list(verdicts(result)) == ["a", "b", "b-placed"]
    assert result.winner is not None
    assert result.winner.candidate.name == "b-placed"


def test_a_placed_candidate_differs_in_nothing_else() -> None:
    (static,) = [c for c in first_candidates() if c.name == "static-minmax"]
    made = placed(static)
    assert static_pass(made) == QuantizeStatic(placement="measured")
    assert made.passes[:-1] == static.passes[:-1]


def standing_of(figures: Mapping[str, Figures], monkeypatch: pytest.MonkeyPatch, **asked: object) -> SearchResult:
    fakes.install(monkeypatch, World(figures))
    return search(fakes.model(), fakes.parts(), None, Settings(Budget(0.01), target="x86-vnni", **asked))


@pytest.mark.usefixtures("falling")
def test_where_nothing_is_proven_a_likely_winner_ships_and_is_called_so(monkeypatch) -> None:
    result = standing_of({"a": Figures(confidence=0.9), "b": Figures(speedup=1.5, confidence=0.94)}, monkeypatch)
    assert result.winner is not None
    assert result.winner.candidate.name == "a"
    assert [(p.candidate, p.standing, p.accepted) for p in result.proofs] == [
        ("b", "likely", False),
        ("a", "likely", True),
    ]
    assert "90.0 %, likely but not proven" in result.reason


def test_a_proven_candidate_goes_before_a_faster_one_that_is_only_likely(monkeypatch) -> None:
    result = standing_of({"a": Figures(confidence=0.9), "b": Figures(speedup=1.5, confidence=0.995)}, monkeypatch)
    assert result.winner is not None
    assert result.winner.candidate.name == "b"


def test_where_a_proof_is_required_a_likely_candidate_does_not_ship(monkeypatch) -> None:
    result = standing_of({"a": Figures(confidence=0.94)}, monkeypatch, require="proven")
    assert result.winner is None
    assert "94.0 %, required: 95.0 %" in result.reason


def test_finalists_that_were_not_tried_are_named(monkeypatch) -> None:
    figures = {name: Figures(speedup=4 - 0.5 * i, confidence=0.1, drop=0.005) for i, name in enumerate("abcdef")}
    result = standing_of(figures, monkeypatch)
    assert len(result.proofs) == MOST_UNPROVEN
    assert len(result.unproved) == 3
    assert f"; not tried: {', '.join(result.unproved)}" in result.reason
