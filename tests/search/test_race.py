"""Candidates are given up on early only where that is nearly sure to be right, and never proved by it."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from onnxopt.measure.accuracy import Evaluation, evaluation_of
from onnxopt.measure.label_judge import LabelJudge
from onnxopt.measure.metrics.classification import TopK
from onnxopt.measure.metrics.regression import Rmse
from onnxopt.measure.runtime.session import Runtime
from onnxopt.search.budget import Budget
from onnxopt.search.optimize import search
from onnxopt.search.race import FIRST, RISK, Race, race_of
from onnxopt.search.settings import Settings
from onnxopt.search.trial import SearchResult, Verdict
from tests import builders
from tests.search import fakes
from tests.search.fakes import Figures, World


def scored(right: np.ndarray) -> Evaluation:
    return evaluation_of(TopK(1), right.astype(float)[:, None], 0)


def test_the_least_drop_is_that_of_exact_intervals() -> None:
    before = np.ones(512, bool)
    before[:20] = False
    now = before.copy()
    now[:4] = True
    now[30:60] = False
    race = Race(scored(before), 0.01)
    level = 1 - RISK / 4  # four looks, at 32, 64, 128 and 256 samples, and two ends each
    worse = stats.binomtest(30, 128).proportion_ci(level, method="exact").low
    better = stats.binomtest(4, 128).proportion_ci(level, method="exact").high
    assert race.least_drop(now[:128]) == pytest.approx(worse - better)


@pytest.mark.parametrize("true_drop", [0.0, 0.05])
def test_one_inside_the_budget_is_given_up_on_no_more_often_than_allowed(true_drop: float) -> None:
    rng, lost, times = np.random.default_rng(0), 0, 400
    for _ in range(times):
        before = rng.random(512) < 0.9
        worse, better = rng.random(512) < true_drop + 0.05, rng.random(512) < 0.05
        now = np.where(before, ~(worse & before), better)
        race = Race(scored(before), max(float(np.mean(before)) - float(np.mean(now)), true_drop))
        lost += any(race([now[:n, None]], n) for n in (32, 64, 128, 256))
    assert lost / times <= 3 * RISK


def test_a_broken_candidate_is_given_up_on_at_the_first_look_and_a_good_one_never() -> None:
    baseline = scored(np.ones(512, bool))
    assert Race(baseline, 0.01)([np.zeros((FIRST, 1))], FIRST)
    assert not Race(baseline, 0.01)([np.zeros((FIRST - 1, 1))], FIRST - 1)
    assert not Race(baseline, 0.01)([np.ones((FIRST, 1))], FIRST)


def test_only_right_or_wrong_scores_on_enough_samples_race() -> None:
    assert race_of(scored(np.ones(2 * FIRST, bool)), 0.01) is not None
    assert race_of(scored(np.ones(2 * FIRST - 1, bool)), 0.01) is None
    rows = np.ones((512, 1))
    assert race_of(evaluation_of(Rmse(), rows, 0), 0.01) is None


def test_a_judge_that_is_stopped_compares_the_same_samples() -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    samples = builders.samples_of(model, count=12, labels=np.arange(12) % 3)
    judge = LabelJudge(model, samples, Runtime(), TopK(1))
    part = judge.evaluate(model, stop=lambda rows, done: done >= 8)
    assert part.n == 8
    assert judge.baseline().n == 12
    assert judge.drop(part).n == 8
    assert judge.drop(part).value == 0


def found(figures: Mapping[str, Figures]) -> tuple[SearchResult, World]:
    world = World(figures)
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch, world)
        settings = Settings(Budget(0.01), confidence=0.7, target="x86-vnni")
        return search(fakes.model(), fakes.parts(), None, settings), world


def test_one_that_is_given_up_on_is_not_timed_and_says_on_how_many_samples() -> None:
    result, world = found({"a": Figures(speedup=9.0, early_drop=0.5), "b": Figures()})
    verdicts = {t.candidate.name: (t.verdict, t.reason) for t in result.trials}
    assert verdicts["a"][0] is Verdict.OVER_BUDGET
    assert "on the first 32 of 100 samples" in verdicts["a"][1]
    assert "a" not in world.timed
    assert result.winner is not None
    assert result.winner.candidate.name == "b"


def test_one_that_looks_good_early_and_is_not_does_not_win() -> None:
    result, _ = found({"a": Figures(speedup=9.0, early_drop=0.0, drop=0.3), "b": Figures()})
    assert result.winner is not None
    assert result.winner.candidate.name == "b"


def test_one_that_looks_good_on_the_whole_search_part_must_still_be_proved() -> None:
    result, _ = found({"a": Figures(speedup=9.0, early_drop=0.0, holdout_drop=0.3)})
    assert result.winner is None


def test_looks_are_at_twice_as_many_samples_each_time_up_to_half_of_all() -> None:
    race, wrong = Race(scored(np.ones(512, bool)), 0.01), np.zeros((512, 1))
    assert not race([np.ones((FIRST, 1))], FIRST)
    assert not race([wrong[: 2 * FIRST - 1]], 2 * FIRST - 1)
    assert race([wrong[: 2 * FIRST]], 2 * FIRST)
    assert race([wrong[:256]], 256)
    assert not race([wrong[:400]], 400)


def test_without_a_loss_nothing_is_given_up_whatever_the_budget() -> None:
    race = Race(scored(np.ones(512, bool)), 0.0)
    assert race.least_drop(np.ones(128, bool)) <= 0
    assert not race([np.ones((128, 1))], 128)


def test_scores_between_right_and_wrong_do_not_race() -> None:
    halves = evaluation_of(TopK(1), np.full((512, 1), 0.5), 0)
    assert race_of(halves, 0.01) is None
