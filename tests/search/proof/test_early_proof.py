"""The first candidate inside the budget is proved at once, and that changes no more than it may."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxopt.options.search import Goal
from onnxopt.search.acceptance import EARLY, Acceptance
from onnxopt.search.budget import Budget
from onnxopt.search.limits.reserve import Reserve
from onnxopt.search.optimize import search
from onnxopt.search.proof import proving
from onnxopt.search.proof.holdout import affordable_samples
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, SearchResult, Trial, Verdict
from tests.search import fakes
from tests.search.fakes import Figures, Recorder, World

PROVABLE = 0.49
LOST = 0.9
"""Drop on the hold-out part of a candidate that looked good on the search part."""


class Told(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.secured_names: list[str] = []

    def secured(self, model: object, trial: object) -> None:
        self.secured_names.append(trial.candidate.name)  # type: ignore[attr-defined]


def found(figures: Mapping[str, Figures], limit: float = PROVABLE) -> tuple[SearchResult, World, Told]:
    world, told = World(figures), Told()
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, world)
        settings = Settings(Budget(limit), confidence=0.7, target="x86-vnni")
        return search(fakes.model(), fakes.parts(), None, settings, told), world, told


def test_it_is_proved_before_the_next_is_tried() -> None:
    result, world, told = found({"a": Figures(), "b": Figures(speedup=3.0)})
    assert world.judged == [("search", "a"), ("holdout", "a"), ("search", "b"), ("holdout", "b")]
    assert told.secured_names == ["a"]
    assert result.winner is not None
    assert result.winner.candidate.name == "b"


def test_a_finalist_is_not_measured_twice_on_the_same_samples() -> None:
    result, world, _ = found({"a": Figures(speedup=3.0), "b": Figures()})
    assert world.judged.count(("holdout", "a")) == 1
    assert result.winner is not None
    assert result.winner.candidate.name == "a"
    assert result.proofs[0].asked == pytest.approx(0.7), "without another finalist the whole risk is its own"


def test_a_measurement_that_lies_early_proves_nothing() -> None:
    """On the search part `a` looks perfect."""
    result, _, told = found({"a": Figures(speedup=9.0, holdout_drop=LOST), "b": Figures()})
    assert told.secured_names == []
    assert result.winner is not None
    assert result.winner.candidate.name == "b"


def test_the_early_proof_stands_where_all_finalists_lied() -> None:
    lies = {name: Figures(speedup=speed, holdout_drop=LOST) for name, speed in (("b", 5.0), ("c", 4.0), ("d", 3.0))}
    result, world, _ = found({"a": Figures(speedup=1.5), **lies})
    assert result.winner is not None
    assert result.winner.candidate.name == "a"
    tried = [p.candidate for p in result.proofs]
    assert len(tried) == 2, "the first failure ends the chain"
    assert tried[-1] == "a"
    assert {name for part, name in world.judged if part == "holdout"} == set(tried)
    assert result.proofs[-1].asked == pytest.approx(0.925), "it took a quarter of the risk"


def test_a_first_candidate_that_is_only_likely_is_not_secured() -> None:
    result, _, told = found({"a": Figures(confidence=0.9)})
    assert told.secured_names == []
    assert result.winner is not None, "as the only finalist it takes the first share"


def test_where_the_hold_out_part_can_prove_nothing_no_attempt_is_spent() -> None:
    _, world, told = found({"a": Figures(), "b": Figures(speedup=3.0)}, limit=0.01)
    assert told.secured_names == []
    assert world.judged[:2] == [("search", "a"), ("search", "b")]
    assert [part for part, _ in world.judged[2:]] == ["holdout"] * len(world.judged[2:])


def test_without_time_for_finalists_the_early_proof_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "held_out", lambda trials: None)
    result, _, _ = found({"a": Figures(speedup=1.5), "b": Figures(speedup=3.0)})
    assert result.winner is not None
    assert result.winner.candidate.name == "a"
    assert result.unproved == ("b",)


@pytest.mark.parametrize(
    ("left_s", "scoring_s", "count"), [(84.0, 3.5, 300), (55.0, 3.5, 98), (12.0, 3.5, None), (100.0, 60.0, 62)]
)
def test_it_takes_no_more_than_half_of_the_time_for_candidates(
    left_s: float, scoring_s: float, count: int | None
) -> None:
    """The first figures are of a small network on a busy host, the last one of a larger, both with a limit of 100 s.

    Of 100 s half are kept for the last proof, and half of the rest, 25 s, hold 12.4 s of scoring beside the timing.
    """
    samples = fakes.parts().holdout
    samples = samples.select(np.resize(samples.indices, 300))
    reserve = Reserve(len(samples), scoring_s=scoring_s, timing_s=12.6, brief_s=10.6, hot_s=10.6, report_s=2.0)
    parts, deadline = SimpleNamespace(holdout=samples), SimpleNamespace(left_s=lambda: left_s)
    trials: Any = SimpleNamespace(parts=parts, reserve=reserve, deadline=deadline, settings=SimpleNamespace(seed=0))
    found = affordable_samples(trials, Trial(Candidate("a", ()), Verdict.WITHIN, ""))
    assert (None if found is None else len(found)) == count


@pytest.mark.parametrize(("needed", "count"), [(20, 60), (99, 297), (101, 300), (None, 300)])
def test_with_a_time_limit_it_takes_three_times_the_samples_that_just_prove_it(needed: int | None, count: int) -> None:
    samples = fakes.parts().holdout
    samples = samples.select(np.resize(samples.indices, 300))
    asked = list[tuple[float, float]]()

    def samples_needed(budget: float, confidence: float) -> int | None:
        asked.append((budget, confidence))
        return needed

    bar = Acceptance(Goal.LATENCY, 0.01, 0.95, 1000)
    reserve = Reserve(len(samples), scoring_s=1.0, timing_s=1.0, brief_s=1.0, hot_s=1.0, report_s=2.0)
    parts, deadline = SimpleNamespace(holdout=samples), SimpleNamespace(left_s=lambda: 100.0)
    trials: Any = SimpleNamespace(
        parts=parts, reserve=reserve, deadline=deadline, settings=SimpleNamespace(seed=0), bar=bar
    )
    measured: Any = Trial(
        Candidate("a", ()),
        Verdict.WITHIN,
        "",
        drop=SimpleNamespace(samples_needed=samples_needed),  # type: ignore[arg-type]
    )
    found = affordable_samples(trials, measured)
    assert found is not None
    assert len(found) == count
    assert asked == [(0.01, bar.asked(EARLY))]
    trials.reserve = None
    assert affordable_samples(trials, measured) is samples, "a last proof on the same samples takes no further time"


def test_of_two_proofs_of_one_candidate_the_accepted_one_is_its_verdict() -> None:
    """An early proof on fewer samples is another attempt: the last may fail, and the early one ships."""
    trial: Any = Trial(Candidate("a", ()), Verdict.WITHIN, "", (), size_bytes=900)
    failed, accepted = (
        SimpleNamespace(candidate="a", accepted=a, standing="proven" if a else "") for a in (False, True)
    )
    assert proving.decided(None, trial, (failed, accepted)).verdict is Verdict.WINNER  # type: ignore[arg-type]
