"""Simplification is the first bet where a short measurement shows that it pays."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.search import optimize
from onnxopt.search.baseline import PROOF_LATENCY
from onnxopt.search.bets import TrialOrder
from onnxopt.search.candidates import exact, first_candidates
from onnxopt.search.judged import drop_of
from onnxopt.search.limits.reserve import Reserve
from onnxopt.search.proof.proving import prove_first

SIMPLEST, *OTHERS = first_candidates()
PLAN = TrialOrder(tuple(OTHERS[:1]), tuple(OTHERS[1:]), (SIMPLEST,))


def led(
    speedup: float, error: NativeError | None = None, latency_s: float = 5.0, reserve: Reserve | None = None
) -> TrialOrder:
    def latency(models: dict[str, object], seconds: float) -> dict[str, object]:
        assert list(models) == ["baseline", "simplify"]
        assert seconds == min(1.0, latency_s)
        if error is not None:
            raise error
        # A busy host: times, but no speed-up that is sure.
        return {
            "baseline": SimpleNamespace(p50_ms=speedup, speedup=None),
            "simplify": SimpleNamespace(p50_ms=1.0, speedup=None),
        }

    trials: Any = SimpleNamespace(
        model="baseline",
        build=lambda candidate: "simplified",
        latency=latency,
        deadline=SimpleNamespace(in_time=lambda work: work()),
        settings=SimpleNamespace(latency_s=latency_s),
        reserve=reserve,
    )
    trials.deadline.candidates_left_s = lambda: 100.0
    return optimize._led(trials, PLAN)


def test_the_simplified_graph_is_the_only_exact_candidate() -> None:
    assert exact(SIMPLEST)
    assert not any(map(exact, OTHERS))


@pytest.mark.parametrize(("speedup", "first"), [(3.0, True), (1.05, True), (1.04, False), (0.8, False)])
def test_it_goes_first_if_it_is_faster_by_enough(speedup: float, first: bool) -> None:
    found = led(speedup)
    assert (found.bets[0] == SIMPLEST) is first
    assert sorted(c.name for c in found.all) == sorted(c.name for c in PLAN.all)
    assert led(speedup, latency_s=0.1) == found


@pytest.mark.parametrize(("loading_s", "first"), [(13.9, True), (14.1, False)])
def test_a_model_that_takes_long_to_load_is_not_loaded_for_it(loading_s: float, first: bool) -> None:
    """100 s are left for candidates, and 15 % of them may go to the look, a second of it for the runs."""
    reserve = Reserve(100, 10.0, loading_s + PROOF_LATENCY * 5.0, loading_s + 5.0, 0.0, 2.0)
    assert (led(3.0, reserve=reserve).bets[0] == SIMPLEST) is first


def test_a_model_that_cannot_be_built_or_timed_goes_in_its_place() -> None:
    assert led(3.0, NativeError("ONX401", "the model does not run")) == PLAN


def test_the_order_that_is_written_down_is_found_again() -> None:
    found = led(3.0)
    assert PLAN.ordered(found.words()) == found


def test_a_candidate_of_little_gain_is_not_proved_early() -> None:
    """The early proof is made once, and a better candidate may follow."""
    holdout = SimpleNamespace(holdout=())
    trials: Any = SimpleNamespace(leader=object(), bar=SimpleNamespace(rank=lambda _: 0.97), parts=holdout)
    assert prove_first(trials) is None


def test_a_simplified_model_that_lost_nothing_loses_nothing_on_other_samples() -> None:
    """A rare loss cannot be ruled out of a quantized model by a few samples, but of equal outputs it can."""
    draws = np.random.default_rng(0).beta(1, 50, 10_000)
    unflipped = Drop(0.0, Interval(0.0, 0.0, 0.05), 50, 0, 0, None, False, draws, most_lost=1.0)
    worse = replace(unflipped, value=0.02, worse=1)
    judge: Any = SimpleNamespace(drop=lambda score: score)
    quantized = next(c for c in OTHERS if c.name == "static-minmax")
    assert drop_of(quantized, judge, unflipped) is unflipped  # type: ignore[arg-type]
    assert drop_of(SIMPLEST, judge, worse) is worse  # type: ignore[arg-type]
    assert unflipped.probability_within(0.01) < 0.5
    assert drop_of(SIMPLEST, judge, unflipped).probability_within(0.01) == pytest.approx(51 / 52)  # type: ignore[arg-type]
