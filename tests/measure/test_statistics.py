from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onnxopt.measure.statistics import (
    Drop,
    Interval,
    _bca_corrections,
    bootstrap_draws,
    corrected_draws,
    flip_draws,
    interval_of_draws,
    mcnemar,
    probability_within,
    ratio_interval,
    share_draws,
    wilson,
)

DATA = np.random.default_rng(0).exponential(size=60)


def mean_of(data):
    return lambda counts: counts @ data / counts.sum(axis=1)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_bootstrap_agrees_with_scipy(method, monkeypatch):
    monkeypatch.setattr("onnxopt.measure.statistics.WIDENING", 0.0)
    draws = bootstrap_draws(mean_of(DATA), len(DATA), seed=0, resamples=20_000)
    if method == "BCa":
        draws = corrected_draws(DATA.mean(), mean_of(DATA), len(DATA), draws)
    ours = interval_of_draws(DATA.mean(), draws)
    theirs = stats.bootstrap(
        (DATA,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(DATA.mean())
    assert abs(ours.low - theirs.low) < 0.05 * width
    assert abs(ours.high - theirs.high) < 0.05 * width


def test_bootstrap_is_repeatable_and_chunks_do_not_matter(monkeypatch):
    one = bootstrap_draws(mean_of(DATA), len(DATA), seed=3, resamples=50)
    monkeypatch.setattr("onnxopt.measure.statistics._CHUNK_ELEMENTS", 500)
    other = bootstrap_draws(mean_of(DATA), len(DATA), seed=3, resamples=50)
    np.testing.assert_array_equal(one, other)


def test_bootstrap_of_constant_rows_has_no_width():
    constant = mean_of(np.ones(5))
    draws = corrected_draws(1.0, constant, 5, bootstrap_draws(constant, 5, seed=0))
    assert interval_of_draws(1.0, draws) == Interval(1.0, 1.0, 1.0)


def test_draws_of_few_samples_are_wider():
    draws = bootstrap_draws(mean_of(DATA), len(DATA), seed=0)
    wider = corrected_draws(DATA.mean(), mean_of(DATA), len(DATA), draws, accelerated=False)
    np.testing.assert_allclose(wider - DATA.mean(), (1 + 2 / np.sqrt(len(DATA))) * (draws - DATA.mean()))


def test_what_has_a_heavy_tail_is_called_within_the_budget_no_more_often_than_stated():
    rng, wrong, n = np.random.default_rng(0), 0, 100
    for seed in range(400):
        error = rng.standard_t(5, n)
        added = error + 0.2 * rng.standard_normal(n)
        rows = np.square(error), np.square(added)

        def lost(counts, rows=rows):
            return np.sqrt(counts @ rows[1] / n) - np.sqrt(counts @ rows[0] / n)

        true = np.sqrt(5 / 3 + 0.2**2) - np.sqrt(5 / 3)
        value = lost(np.ones((1, n), dtype=np.int64))[0]
        draws = corrected_draws(value, lost, n, bootstrap_draws(lost, n, seed=seed, resamples=400))
        wrong += probability_within(true, draws, n) >= 0.95
    assert wrong <= 0.05 * 400


def test_corrected_draws_keep_their_order_and_what_is_no_number():
    draws = bootstrap_draws(mean_of(DATA), len(DATA), seed=0)
    draws[3] = np.nan
    corrected = corrected_draws(DATA.mean(), mean_of(DATA), len(DATA), draws)
    assert np.isnan(corrected[3])
    assert np.isnan(corrected).sum() == 1
    usable = ~np.isnan(draws)
    assert stats.spearmanr(draws[usable], corrected[usable]).statistic > 0.9999
    assert corrected[usable].mean() > draws[usable].mean()  # a mean of skewed data is more often too low than too high


@pytest.mark.parametrize(("value", "draws"), [(np.nan, [1.0, 2.0]), (0.5, []), (0.5, [np.nan]), (np.nan, [])])
def test_without_a_value_or_without_draws_the_interval_has_no_ends(value, draws):
    found = interval_of_draws(value, np.array(draws))
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_the_ends_of_an_interval_are_in_it():
    interval = Interval(0.9, 1.0, 1.1)
    assert [interval.excludes(value) for value in (0.9, 1.1, 0.89, 1.11)] == [False, False, True, True]


def test_the_interval_is_the_middle_of_the_draws():
    found = interval_of_draws(50.0, np.arange(101.0), level=0.9)
    assert (found.low, found.high) == (pytest.approx(5), pytest.approx(95))


def test_the_acceleration_of_a_mean_is_its_skewness():
    """Efron, "Better bootstrap confidence intervals", 1987: the skewness over six roots of the number of rows."""
    draws = bootstrap_draws(mean_of(DATA), len(DATA), seed=0)
    bias, acceleration = _bca_corrections(mean_of(DATA), len(DATA), float(np.quantile(draws, 0.3)), draws)
    assert acceleration == pytest.approx(stats.skew(DATA) / (6 * np.sqrt(len(DATA))))
    assert bias == pytest.approx(stats.norm.ppf(0.3), abs=0.01)


def test_without_a_spread_or_with_draws_on_one_side_nothing_is_corrected():
    draws = np.linspace(0.1, 0.9, 9)
    assert _bca_corrections(mean_of(DATA), len(DATA), 0.0, draws) == (0.0, 0.0)
    assert _bca_corrections(mean_of(np.ones(5)), 5, 0.5, draws) == (0.0, 0.0)


def test_draws_equal_to_the_value_count_half_on_each_side():
    symmetric = np.array([-1.0, 0.0, 1.0])
    bias, acceleration = _bca_corrections(mean_of(symmetric), 3, 0.0, np.array([-1.0, -1.0, 0.0, 1.0, 1.0]))
    assert (bias, acceleration) == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.0, abs=1e-12))


def test_a_ratio_has_the_interval_of_students_t_on_logarithms():
    """The 97.5 % quantile with two degrees of freedom is 4.302653 (any table of the distribution)."""
    found, width = ratio_interval([1.0, 2.0, 4.0]), 2 ** (4.302653 / np.sqrt(3))
    assert (found.low, found.value, found.high) == (
        pytest.approx(2 / width),
        pytest.approx(2),
        pytest.approx(2 * width),
    )
    assert ratio_interval([1.5]) == Interval(0.0, pytest.approx(1.5), np.inf)
    assert np.isfinite(ratio_interval([1.0, 1.1]).high)


def test_nothing_known_is_said_so():
    assert ratio_interval([1.5]).high == np.inf


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_has_a_width(case):
    successes, n = case
    interval = wilson(successes, n)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high > interval.low


def test_wilson_known_value():
    interval = wilson(8, 10)  # Wilson 1927 by hand: (8 + 1.92)/(10 + 3.84) -+ ...
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(better, worse):
    n, k = better + worse, min(better, worse)
    expected = min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n) if better != worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected)
    assert mcnemar(better, worse) == mcnemar(worse, better)


def test_no_flips_in_a_few_samples_are_no_proof():
    few = probability_within(0.01, flip_draws(0, 0, 10, seed=0), 10)
    many = probability_within(0.01, flip_draws(0, 0, 5000, seed=0), 5000)
    assert few < 0.15
    assert many > 0.99
    assert probability_within(0.0, flip_draws(0, 0, 5000, seed=0), 5000) < 0.001


@pytest.mark.parametrize(("worse", "n"), [(0, 250), (3, 400), (17, 1000)])
def test_the_posterior_of_losses_alone_is_the_exact_upper_bound(worse, n):
    bound = stats.binomtest(worse, n).proportion_ci(0.9, method="exact").high
    for draws in (share_draws(worse, n, seed=0), flip_draws(0, worse, n, seed=0)):
        assert probability_within(bound, draws, n) == pytest.approx(0.95, abs=0.005)


def test_flip_posterior_agrees_with_the_normal_approximation():
    better, worse, n = 60, 90, 3000
    draws = flip_draws(better, worse, n, seed=0)
    drop = (worse - better) / n
    error = np.sqrt((better + worse) / n - drop**2) / np.sqrt(n)
    assert draws.mean() == pytest.approx(drop + 1 / n, abs=0.02 * error)
    assert draws.std() == pytest.approx(error, rel=0.02)
    assert probability_within(0.015, draws, n) == pytest.approx(stats.norm.cdf((0.015 - drop) / error), abs=0.05)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200), st.floats(-0.5, 0.5))
def test_probability_grows_with_the_budget_and_is_never_certain(better, worse, same, budget):
    n = better + worse + same
    draws = flip_draws(better, worse, n, seed=0, draws=500)
    smaller, larger = (probability_within(b, draws, n) for b in (budget, budget + 0.1))
    assert 0 < smaller <= larger < 1


def test_share_of_disagreements_cannot_be_negative():
    draws = share_draws(0, 100, seed=0)
    assert draws.min() >= 0
    assert draws.mean() == pytest.approx(1 / 101, rel=0.05)


@pytest.mark.parametrize(("most_lost", "expected"), [(1.0, 138), (0.005, 2), (None, 2)])
def test_the_number_of_samples_needed_counts_kinds_that_were_not_seen(most_lost, expected):
    """log(0.25) / log(0.99) = 137.9 samples without a loss for 1 % of doubt 25 %; by the rule of succession 2."""
    drop = Drop(0.0, Interval(0.0, 0.0, 0.0), 100, 0, 0, None, False, np.zeros(10), most_lost=most_lost)
    assert drop.samples_needed(0.01, 0.75) == expected


@pytest.mark.parametrize(
    ("budget", "most_lost", "expected"),
    [(0.01, 1.0, 1 - 0.99**300), (0.01, 0.02, 301 / 302), (0.01, 0.005, 301 / 302), (0.01, None, 301 / 302)],
)
def test_kinds_of_samples_that_were_not_seen_limit_the_probability(budget, most_lost, expected):
    assert probability_within(budget, np.zeros(1000), 300, most_lost) == pytest.approx(expected, rel=1e-12)


def test_few_draws_within_the_budget_stay_few_where_samples_not_seen_lose_little():
    draws = np.array([0.0, 1.0, 1.0, 1.0])
    assert probability_within(0.5, draws, 1000, 1.0) == 0.25
    assert probability_within(-1.0, draws, 1000, 1.0) == 1 / 1002


def test_draws_without_a_number_are_within_no_budget():
    assert probability_within(1.0, np.full(5, np.nan), 5) == 0


@pytest.mark.filterwarnings("error")
def test_ratios_that_have_nothing_in_common_have_an_interval_without_end():
    found = ratio_interval([1e-300, 1.0, 1e300])
    assert (found.low, found.high) == (0.0, np.inf)


def test_ratio_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [not ratio_interval(np.exp(rng.normal(0.1, 0.02, 8))).excludes(np.exp(0.1)) for _ in range(2000)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=10))
def test_ratio_interval_is_symmetric_under_inversion(ratios):
    one, other = ratio_interval(ratios), ratio_interval([1 / r for r in ratios])
    assert one.low <= one.value <= one.high
    assert (one.low, one.value, one.high) == pytest.approx((1 / other.high, 1 / other.value, 1 / other.low), rel=1e-6)


def of_normal_draws(value: float, error: float, n: int) -> Drop:
    draws = value + error * stats.norm.ppf(np.linspace(0.0005, 0.9995, 1000))
    return Drop(value, Interval(value - error, value, value + error), n, None, None, None, False, draws)


@pytest.mark.parametrize("confidence", [0.7, 0.95])
def test_the_number_of_samples_that_is_needed_is_enough(confidence):
    few = of_normal_draws(0.008, 0.01, 100)
    assert few.probability_within(0.01) < confidence
    needed = few.samples_needed(0.01, confidence)
    assert needed is not None
    for n, enough in ((round(1.05 * needed), True), (round(0.95 * needed), False)):
        assert (of_normal_draws(0.008, 0.01 * (100 / n) ** 0.5, n).probability_within(0.01) >= confidence) is enough


def test_no_number_of_samples_shows_what_is_not_so():
    assert of_normal_draws(0.02, 0.01, 100).samples_needed(0.01, 0.95) is None
    assert of_normal_draws(0.01, 0.01, 100).samples_needed(0.01, 0.95) is None


def test_a_few_samples_show_little_even_when_all_agree():
    same = of_normal_draws(0.0, 0.0, 4)
    assert same.probability_within(0.01) < 0.95
    assert same.samples_needed(0.01, 0.95) == 18
    assert of_normal_draws(0.0, 0.0, 18).probability_within(0.01) >= 0.95


@pytest.mark.parametrize("draws", [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
def test_draws_on_one_side_of_the_value_have_no_bias_to_correct(draws):
    """Their share below the value is 0 or 1, of which the normal quantile is infinite."""
    corrected = corrected_draws(0.0, mean_of(np.arange(3.0)), 3, np.array(draws))
    assert np.isfinite(corrected).all()
    assert (np.sign(corrected) == np.sign(draws)).all()


def test_a_statistic_that_needs_every_row_has_no_acceleration():
    def of_all(counts):
        return np.where((counts > 0).all(axis=1), counts.sum(axis=1), np.nan)

    draws = np.array([3.0, 4.0, 6.0, np.nan])
    corrected = corrected_draws(4.5, of_all, 3, draws)
    assert np.isfinite(corrected[:3]).all()
    assert np.isnan(corrected[3])


def test_a_broken_candidate_and_draws_without_a_spread_need_no_number_of_samples():
    good = of_normal_draws(0.005, 0.01, 100)
    assert good.samples_needed(0.01, 0.95) is not None
    assert replace(good, broken=True).samples_needed(0.01, 0.95) is None
    with np.errstate(invalid="ignore"):
        assert replace(good, draws=np.array([0.0, np.inf])).samples_needed(0.01, 0.95) is None
    assert replace(good, broken=True).probability_within(1.0) == 0
    assert not replace(good, broken=True).within(1.0)


def test_gains_that_even_out_losses_count_only_where_losses_are_known():
    drop = of_normal_draws(0.0, 0.01, 100)
    assert not drop.evened_out(0.01)
    assert [replace(drop, gross=gross).evened_out(0.01) for gross in (0.01, 0.011)] == [False, True]
