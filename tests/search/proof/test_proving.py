"""Finalists are tried from the smallest gain to the largest; no more is tried or shipped than may be."""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from onnxopt.errors import ModelError, NativeError
from onnxopt.search.acceptance import EARLY
from onnxopt.search.limits.deadline import TimeOver
from onnxopt.search.limits.reserve import Reserve
from onnxopt.search.proof import proving
from onnxopt.search.proof.proving import prove_finalists, prove_first
from onnxopt.search.trial import Verdict
from onnxopt.search.workers.runner import LOST
from tests.search.proofs import FASTER, Found, timing, trial, trials

A, B, C = (trial(name) for name in "abc")
GONE = NativeError(LOST, "the connection was lost")
FAILS = ModelError("ONX304", "it does not load")


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The outcome of measuring each finalist on the hold-out samples: measurements, or an error."""
    made: dict[str, Any] = {"measured": []}

    def measured(trials: Any, judge: Any, one: Any, samples: int, *, brief: bool = False) -> Any:
        name = one.candidate.name
        made["measured"].append(f"{name} briefly" if brief else name)
        found = made.get(name, Found(one))
        if isinstance(found, BaseException):
            raise found
        return replace(found, brief=brief)

    monkeypatch.setattr(proving, "holdout_evidence", measured)
    monkeypatch.setattr(proving, "timed_as_last", lambda trials, found: made.get("as last", found))
    monkeypatch.setattr(proving, "held_out", lambda trials: trials.parts.holdout)
    monkeypatch.setattr(proving, "affordable_samples", lambda trials, trial: trials.parts.holdout)
    return made


@pytest.fixture(autouse=True)
def chances(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The chances of the finalists: those of a chain of all three, which climbs from `c` to `a`."""
    found = {"a": 0.7, "b": 0.95, "c": 1.0, "early": 0.5}
    monkeypatch.setattr(
        proving, "chance_by_trial", lambda bar, holdout: lambda trial, share: (found[trial.candidate.name],) * 2
    )
    return found


def proofs_of(search: Any, early: Any = None) -> tuple[str, list[tuple[str, float]], list[str]]:
    """Return the model that ships, each proof with its share of the risk, and the accepted ones."""
    model, proofs = prove_finalists(search, early)
    return str(model), [(p.candidate, p.asked) for p in proofs], [p.candidate for p in proofs if p.accepted]


REST = 1 - EARLY


def test_the_last_proven_finalist_ships_each_with_the_same_share(outcomes: dict[str, Any]) -> None:
    assert proofs_of(trials(A, B, C)) == ("model a", [("c", REST), ("b", REST), ("a", REST)], ["a"])


def test_the_first_that_is_not_proven_ends_the_chain(outcomes: dict[str, Any]) -> None:
    outcomes["b"] = Found(B, "likely")
    search = trials(A, B, C)
    assert proofs_of(search) == ("model c", [("c", REST), ("b", REST)], ["c"])
    assert proving.untried(search, proving.prove_finalists(search)[1]) == ("a",)


def test_only_one_that_no_other_follows_is_timed_for_long(outcomes: dict[str, Any]) -> None:
    proofs_of(trials(A, B, C))
    assert outcomes["measured"] == ["c briefly", "b briefly", "a"]


def test_one_that_ships_though_others_followed_is_timed_for_long_and_must_be_faster_still(
    outcomes: dict[str, Any],
) -> None:
    outcomes |= {"a": Found(A, ""), "as last": Found(B, "proven", latency="for long")}
    _, proofs = prove_finalists(trials(A, B, C))
    assert [(p.candidate, p.latency, p.accepted) for p in proofs][1] == ("b", "for long", True)
    outcomes["as last"] = Found(B, "", accurate=True)
    assert proofs_of(trials(A, B, C))[2] == [], "the next one, timed as this fake says, is not faster either"


def test_behind_a_first_failure_the_most_promising_alternative_takes_the_rest_of_the_risk(
    outcomes: dict[str, Any], chances: dict[str, float]
) -> None:
    """The others of the chain first: 0.95 times 0.6 is more than 0.7 times 0.8."""
    outcomes["c"] = Found(C, "")
    assert proofs_of(trials(A, B, C)) == ("model b", [("c", REST), ("b", EARLY)], ["b"])
    chances |= {"a": 0.9, "b": 0.5, "c": 0.5}
    outcomes |= {"a": Found(A, "likely")}
    search = trials(A, B, C)
    assert proofs_of(search) == ("model b", [("a", REST), ("b", EARLY)], ["b"])
    assert proving.untried(search, prove_finalists(search)[1]) == ("c",)


def test_of_two_that_gain_the_same_the_other_is_tried_where_the_first_fails(
    outcomes: dict[str, Any], chances: dict[str, float]
) -> None:
    chances |= {"a": 0.7, "b": 0.6}
    outcomes["a"] = Found(A, "")
    assert proofs_of(trials(A, B, gains={"b": 0.8})) == ("model b", [("a", REST), ("b", EARLY)], ["b"])


def test_where_both_fail_the_next_can_only_be_likely_and_the_likely_one_with_the_largest_gain_ships(
    outcomes: dict[str, Any],
) -> None:
    outcomes |= {"c": Found(C, ""), "b": Found(B, "likely")}
    assert proofs_of(trials(A, B, C)) == ("model a", [("c", REST), ("b", EARLY), ("a", 0)], ["a"])
    outcomes["a"] = Found(A, "")
    assert proofs_of(trials(A, B, C)) == ("model b", [("c", REST), ("b", EARLY), ("a", 0)], ["b"])


def test_a_search_for_a_likely_one_ends_after_three_proofs(outcomes: dict[str, Any]) -> None:
    """Each is another chance to be lucky; the early one is the first."""
    outcomes |= {"c": Found(C, ""), "b": Found(B, "likely")}
    found = proofs_of(trials(A, B, C), Found(trial("early"), ""))
    assert found == ("model b", [("c", 1 - EARLY), ("b", 0), ("early", EARLY)], ["b"])


def test_without_a_proven_or_likely_finalist_the_baseline_stays(outcomes: dict[str, Any]) -> None:
    outcomes["a"] = Found(A, "")
    search = trials(A, latency=None)
    assert proofs_of(search) == ("the baseline", [("a", 1)], [])


def test_a_finalist_that_fails_does_not_end_the_chain(outcomes: dict[str, Any]) -> None:
    outcomes["c"] = FAILS
    search = trials(A, B, C)
    assert proofs_of(search) == ("model a", [("b", REST), ("a", REST)], ["a"])
    assert search.failed == [("c", "ONX304")]


def test_a_finalist_that_fails_by_its_time_alone_does_not_end_the_chain(outcomes: dict[str, Any]) -> None:
    """Its drop is proven, so nothing of the risk is lost."""
    outcomes["c"] = Found(C, "", accurate=True)
    assert proofs_of(trials(A, B, C)) == ("model a", [("c", REST), ("b", REST), ("a", REST)], ["a"])


def test_where_the_only_one_of_the_chain_fails_otherwise_an_alternative_takes_its_share(
    outcomes: dict[str, Any], chances: dict[str, float]
) -> None:
    """It does not load, or is not faster: nothing of the risk is lost."""
    chances |= {"a": 0.9, "b": 0.5, "c": 0.5}
    for failing in (FAILS, Found(A, "", accurate=True)):
        outcomes["a"] = failing
        model, proofs, accepted = proofs_of(trials(A, B, C))
        assert (model, proofs[-1], accepted) == ("model b", ("b", REST), ["b"])


def test_a_lost_cluster_is_no_failure_of_the_finalist(outcomes: dict[str, Any]) -> None:
    outcomes["c"] = GONE
    with pytest.raises(NativeError, match=LOST):
        prove_finalists(trials(A, B, C))


def test_a_proof_that_is_cut_ends_the_chain_and_the_last_proven_one_ships(outcomes: dict[str, Any]) -> None:
    outcomes["b"] = TimeOver()
    search = trials(A, B, C)
    assert proofs_of(search) == ("model c", [("c", REST)], ["c"])
    assert search.late.finalists == ("b", "a")
    assert proving.untried(search, prove_finalists(search)[1]) == ()


def reserve(**changes: float) -> Reserve:
    return replace(Reserve(20, scoring_s=4.0, timing_s=3.0, brief_s=2.0, hot_s=2.0, report_s=1.0), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("left_s", "names"), [(6.1, ["c", "b"]), (5.9, ["c"])])
def test_a_further_proof_needs_time_for_one_finalist_its_timing_and_the_report(
    outcomes: dict[str, Any], left_s: float, names: list[str]
) -> None:
    times = iter([13.0, *[left_s] * 9])
    search = trials(B, C, reserve=reserve(hot_s=9e9), left_s=lambda: next(times))
    assert [name for name, _ in proofs_of(search)[1]] == names
    assert search.late.finalists == (() if "b" in names else ("b",))


@pytest.mark.parametrize(("left_s", "tried"), [(12.0, ["b", "a"]), (11.9, ["b"]), (16.0, ["c", "b", "a"])])
def test_the_chain_is_as_long_as_there_is_time_for(outcomes: dict[str, Any], left_s: float, tried: list[str]) -> None:
    """The first needs 4 + 3 s and the report 1 s, each further one 2 + 2 s."""
    search = trials(A, B, C, reserve=reserve(hot_s=9e9), left_s=lambda: left_s)
    assert [name for name, _ in proofs_of(search)[1]] == tried


def test_behind_a_proven_early_candidate_only_better_ones_are_tried_with_the_whole_risk(
    outcomes: dict[str, Any],
) -> None:
    search = trials(A, B, C, gains={"early": 0.5})
    assert proofs_of(search, Found(trial("early"))) == ("model a", [("b", 1), ("a", 1)], ["a"])
    outcomes["a"] = Found(A, "")
    assert proofs_of(search, Found(trial("early"))) == ("model b", [("b", 1), ("a", 1)], ["b"])


def test_the_share_of_an_early_proof_that_failed_is_lost(outcomes: dict[str, Any]) -> None:
    found = proofs_of(trials(A, B, C), Found(trial("early"), "likely"))
    assert found == ("model a", [("c", 1 - EARLY), ("b", 1 - EARLY), ("a", 1 - EARLY)], ["a"])


def test_behind_an_early_proof_a_failure_ends_the_chain_at_once(outcomes: dict[str, Any]) -> None:
    outcomes["b"] = Found(B, "")
    found = proofs_of(trials(A, B, gains={"early": 0.5}), Found(trial("early")))
    assert found == ("model early", [("b", 1), ("early", EARLY)], ["early"])


def test_the_first_proof_is_begun_with_the_time_that_is_left(outcomes: dict[str, Any]) -> None:
    assert proofs_of(trials(A, reserve=reserve(), left_s=lambda: 0.1))[2] == ["a"]


@pytest.mark.parametrize(("used", "fits"), [(20, False), (5, True)])
def test_a_proof_on_fewer_samples_needs_less_time(used: int, fits: bool) -> None:
    search = trials(reserve=reserve(), left_s=lambda: 5.0)
    assert proving._another_fits(search, used) is fits


def test_an_early_proof_on_the_same_samples_is_not_measured_again(outcomes: dict[str, Any]) -> None:
    assert proofs_of(trials(A, B, C), Found(A)) == ("model a", [("a", 1)], ["a"])
    assert outcomes["measured"] == []
    found = proofs_of(trials(A, B, C), Found(A, "likely"))
    assert found == ("model b", [("c", 1 - EARLY), ("b", 1 - EARLY)], ["b"])


def test_without_other_finalists_an_early_proof_has_the_whole_risk(outcomes: dict[str, Any]) -> None:
    assert proofs_of(trials(A), Found(A, "likely")) == ("model a", [("a", 1)], ["a"])


def test_an_early_proof_that_failed_on_fewer_samples_may_be_proven_on_all(outcomes: dict[str, Any]) -> None:
    found = proofs_of(trials(A), Found(A, "likely", samples=9))
    assert found == ("model a", [("a", 1 - EARLY)], ["a"])
    found = proofs_of(trials(A), Found(A, samples=9))
    assert found == ("model a", [("a", 1)], ["a"]), "it is proven already"


def test_without_time_for_the_samples_only_the_early_proof_counts(
    outcomes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "held_out", lambda trials: None)
    search = trials(A, B, C)
    assert proofs_of(search, Found(B, samples=9)) == ("model b", [("b", 1)], ["b"])
    assert search.late.finalists == ("a", "c")
    assert outcomes["measured"] == []


def test_without_time_and_without_an_early_proof_nothing_is_tried(
    outcomes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "held_out", lambda trials: None)
    search = trials(A, B)
    assert proofs_of(search) == ("the baseline", [], [])
    assert search.late.finalists == ("a", "b")


def test_an_accepted_early_proof_is_secured(outcomes: dict[str, Any]) -> None:
    search = trials(A)
    assert prove_first(search) == Found(A, brief=True)
    assert search.events == ["proved a", "secured model a"]
    assert outcomes["measured"] == ["a briefly"]


def test_an_early_proof_that_is_not_accepted_is_kept_but_not_secured(outcomes: dict[str, Any]) -> None:
    outcomes["a"] = Found(A, "likely")
    search = trials(A)
    assert prove_first(search) == Found(A, "likely", brief=True)
    assert search.events == []


@pytest.mark.parametrize(("standing", "more_s"), [("proven", []), ("likely", [4.0]), ("", [4.0])])
def test_where_it_is_not_accepted_time_is_reserved_for_one_more_finalist(
    outcomes: dict[str, Any], standing: Any, more_s: list[float]
) -> None:
    """Half of 4 s of scoring, and 2 s of brief timing."""
    outcomes["a"] = Found(A, standing)
    search = trials(A, reserve=reserve())
    reserved = list[float]()
    search.deadline.reserve_for = reserved.append
    prove_first(search)
    assert reserved == more_s


@pytest.mark.parametrize(
    "changes",
    [{"leader": None}, {"prospect": lambda count, share: SimpleNamespace(possible=False)}],
)
def test_without_a_candidate_or_a_prospect_there_is_no_early_proof(
    outcomes: dict[str, Any], changes: Mapping[str, Any]
) -> None:
    assert prove_first(trials(A, **changes)) is None
    assert outcomes["measured"] == []


def test_without_samples_that_fit_the_time_there_is_no_early_proof(
    outcomes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "affordable_samples", lambda trials, trial: None)
    assert prove_first(trials(A)) is None
    assert outcomes["measured"] == []


def test_the_prospect_of_an_early_proof_is_that_of_its_share(outcomes: dict[str, Any]) -> None:
    seen = []

    def prospect(count: int, share: float) -> Any:
        seen.append((count, share))
        return SimpleNamespace(possible=True)

    prove_first(trials(A, prospect=prospect))
    assert seen == [(20, EARLY)]


def test_an_early_proof_that_fails_is_none_but_a_lost_cluster_ends_the_search(outcomes: dict[str, Any]) -> None:
    outcomes["a"] = FAILS
    assert prove_first(trials(A)) is None
    outcomes["a"] = GONE
    with pytest.raises(NativeError, match=LOST):
        prove_first(trials(A))


@pytest.mark.parametrize(("left_s", "measured"), [(3.0, True), (2.9, False)])
def test_the_speed_up_of_one_repeated_input_needs_time_for_it_and_the_report(left_s: float, measured: bool) -> None:
    found = proving._hot(trials(reserve=reserve(), left_s=lambda: left_s), "a", None)  # type: ignore[arg-type]
    assert found == (FASTER if measured else None)


def test_the_speed_up_of_one_repeated_input_is_not_measured_twice() -> None:
    search = trials(settings=SimpleNamespace(latency_s=1.0, hot=True), latency=None)
    assert proving._hot(search, "a", None) is None  # type: ignore[arg-type]


def test_the_speed_up_of_one_repeated_input_may_be_cut() -> None:
    @contextmanager
    def cut() -> Any:
        raise TimeOver
        yield

    search = trials()
    search.deadline.ending = cut
    assert proving._hot(search, "a", None) is None  # type: ignore[arg-type]


def proof(name: str, **changes: Any) -> Any:
    return replace(Found(trial(name)).proof(None, 0), **changes)  # type: ignore[arg-type]


def test_a_trial_without_a_proof_keeps_its_verdict() -> None:
    assert proving.decided(trials(), A, [proof("b")]) is A


def test_a_proven_finalist_that_another_beats_says_so() -> None:
    found = proving.decided(trials(), A, [proof("a", accepted=False, standing="proven"), proof("b", accepted=True)])
    assert found.verdict is Verdict.WITHIN
    assert found.reason == "proven on the hold-out samples too; the winner gains more"


@pytest.mark.parametrize("standing", ["proven", "likely"])
def test_the_winner_says_how_sure_it_is(standing: Any) -> None:
    won = proving.decided(trials(), A, [proof("b"), proof("a", accepted=True, standing=standing)])
    assert won.verdict is Verdict.WINNER
    assert standing in won.reason


@pytest.mark.parametrize(("now", "verdict"), [(Verdict.UNSURE, Verdict.UNSURE), (Verdict.WITHIN, Verdict.UNPROVEN)])
def test_a_proof_that_is_not_accepted_is_unsure_where_the_clock_is(now: Verdict, verdict: Verdict) -> None:
    seen = []

    def judged(drop: Any, speedup: Any, size: int, unsure: str) -> tuple[Verdict, str]:
        seen.append((speedup, size, unsure))
        return now, ""

    bar = SimpleNamespace(verdict=judged, why_unproven=lambda proof: "the reason")
    rejected = proof("a", accepted=False, standing="likely", latency=timing(None, "busy"))
    found = proving.decided(trials(bar=bar), A, [rejected])
    assert (found.verdict, found.reason) == (verdict, "the reason")
    assert seen == [(None, 900, "busy")]
