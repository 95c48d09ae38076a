"""Parts of the clock: what it reads, what it makes of runs, how slow the slow ones are, which inputs it takes."""

import time

import numpy as np
import pytest
from measure_models import samples_of

from onnxopt.measure.latency import drawn_inputs, noise_of, watch, watch_of
from onnxopt.measure.latency.estimate import (
    MOST_WAITING,
    SPREAD,
    middle_mean,
    per_run_ns,
    restless,
    undisturbed,
    waiting_share,
)
from onnxopt.measure.latency.inputs import scattered
from onnxopt.measure.latency.rounds import Round
from onnxopt.measure.latency.summary import (
    MIN_EPOCHS,
    WIDEST,
    WIDEST_CLEAR,
    Epoch,
    interval_of_ratio,
    interval_over,
    summed_up,
    too_wide,
)
from onnxopt.measure.latency.tails import upper_bound
from onnxopt.measure.statistics import Interval
from onnxopt.samples import Samples


def test_one_thread_is_timed_by_its_own_time_and_several_by_the_time_of_day():
    assert watch_of(1).own is time.thread_time_ns
    assert watch_of(1).pauses
    for other in (watch_of(2), watch_of(1, on_processor=False)):
        assert other.own is time.perf_counter_ns
        assert not other.pauses


def test_a_coarse_clock_of_threads_is_not_used(monkeypatch):
    class Coarse:
        resolution = 0.0156

    monkeypatch.setattr(watch.time, "get_clock_info", lambda name: Coarse)
    assert watch_of(1).own is time.perf_counter_ns


def test_waiting_is_read_from_the_scheduler_of_every_thread(tmp_path):
    for thread, text in {"1": "900 20 3", "2": "100 5 1", "3": "0"}.items():
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    assert watch.run_delay_ns(tmp_path) == 25
    assert watch.run_delay_ns(tmp_path / "none") is None


def test_without_a_scheduler_that_tells_switches_are_counted(monkeypatch):
    monkeypatch.setattr(watch, "run_delay_ns", lambda: None)
    pytest.importorskip("resource")
    assert watch.waited_ns() % watch.NS_PER_SWITCH == 0


def test_the_middle_half_leaves_out_a_run_that_was_spoilt():
    assert middle_mean(np.array([1.0, 1.0, 9.0])) == 1.0
    assert middle_mean(np.array([1.0, 2.0, 3.0, 100.0])) == 2.5
    assert middle_mean(np.array([2.0])) == 2.0


def one_round(times, inputs=None) -> Round:
    times = np.asarray(times, float)
    return Round((times,), (times,), np.zeros(len(times), int) if inputs is None else inputs, 0, int(times.sum()))


def test_inputs_that_were_run_often_count_each_for_itself():
    inputs = np.tile([0, 1], 8)
    rounds = [one_round(np.where(inputs == 0, 100.0, 300.0), inputs)]
    assert per_run_ns(rounds, (0, 0)).tolist() == [200.0]
    assert per_run_ns([one_round([100.0, 100.0, 900.0], np.arange(3))], (0, 0, 0)).tolist() == [100.0]


def test_the_slow_runs_are_those_of_the_time_of_day():
    times = [one_round(np.arange(1, 1001) * 1e6) for _ in range(2)]
    (found,) = summed_up([Epoch(times, (1.0,), (1.0,), 0.1)] * 2, pauses=True, shapes=(0,), batch_size=1)
    assert found.p90_ms == pytest.approx(900, abs=1)
    assert found.p99_ms == pytest.approx(990, abs=1)
    assert 900 < found.p90_bound_ms < 930
    assert 990 < found.p99_bound_ms < 1000


@pytest.mark.parametrize(("share", "fewest"), [(0.9, 44), (0.99, 459)])
def test_a_bound_needs_enough_runs(share, fewest):
    assert upper_bound(np.arange(fewest - 1), share) is None
    assert upper_bound(np.arange(fewest), share) == fewest - 1


def test_a_bound_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    bounds = [upper_bound(rng.uniform(size=600), 0.99) for _ in range(1000)]
    assert np.mean([bound >= 0.99 for bound in bounds]) >= 0.985


class Sentences:
    """Sentences of rising length."""

    name, labels, stacks = "sentences", None, True

    def __len__(self):
        return 200

    def read(self, index):
        return {"ids": np.full(1 + index // 2, index)}


def test_inputs_stand_for_the_lengths_of_the_data():
    found = [feeds["ids"].shape for feeds in drawn_inputs(Samples.of(Sentences()), 1)]
    assert len(found) == 32
    assert all(rows == 1 for rows, _ in found)
    lengths = [length for _, length in found]
    assert np.mean(lengths) == pytest.approx(50.5, abs=1.5)
    assert np.mean(lengths[:8]) == pytest.approx(50.5, abs=8)
    assert min(lengths) <= 4
    assert max(lengths) >= 97


def test_a_batch_has_samples_of_one_length():
    for feeds in drawn_inputs(Samples.of(Sentences()), 3):
        assert feeds["ids"].shape[0] == 3
        assert len(set(feeds["ids"][:, 0] // 2)) == 1


def test_inputs_of_a_fixed_batch_are_whole_batches():
    samples = Samples.of(samples_of(np.arange(40.0).reshape(20, 2)).source, 4, fixed_batch=True)
    assert [feeds["x"].shape for feeds in drawn_inputs(samples, 1)] == [(4, 2)] * 5


def test_few_samples_are_all_taken():
    assert len(drawn_inputs(samples_of(np.ones((5, 2))), 1)) == 5


def test_the_first_few_lie_all_over_the_range():
    assert scattered(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert sorted(scattered(11)) == list(range(11))
    assert scattered(1) == [0]


def test_a_host_is_noisy_by_its_spread_or_by_waiting():
    assert not noise_of([1.0, 1.01, 1.0, 1.02]).loud
    assert noise_of([1.0, 1.0, 1.3, 1.0]).loud
    assert noise_of([1.0] * 8, [0.01, 0.3]).loud
    assert [noise_of([1.0, 1.0, 1.0 + spread, 1.0]).loud for spread in (0.099, 0.101)] == [False, True]
    assert [noise_of([1.0] * 8, [waited]).loud for waited in (0.05, 0.051)] == [False, True]
    assert noise_of([1.0, 2.0]).spread is None
    assert noise_of([]).words == ""


def spent(waited_ns: int | None, times=(100.0,) * 10) -> Round:
    runs = np.array(times)
    return Round((runs,), (runs,), np.zeros(len(runs), int), waited_ns, 1_000)


def test_rounds_with_waiting_count_only_while_the_watch_pauses():
    at_limit, unknown = spent(int(MOST_WAITING * 1_000)), spent(None)
    above = spent(int(MOST_WAITING * 1_000) + 1)
    assert undisturbed([at_limit, above, unknown], pauses=False) == [at_limit, unknown]
    assert undisturbed([at_limit, above, unknown], pauses=True) == [at_limit, above, unknown]


def test_the_spread_of_runs_shows_other_programs_only_if_waiting_is_unknown():
    wide = (100.0,) * 3 + (101 * SPREAD,) * 7
    assert restless([spent(None, wide)])
    assert not restless([spent(0, wide)])
    assert not restless([spent(0, wide), spent(None, wide)])
    assert not restless([spent(None)])
    assert not restless([])


def test_the_share_of_waiting_is_that_of_rounds_with_a_known_one():
    assert waiting_share([spent(500), spent(0), spent(None)]) == 0.25
    assert waiting_share([spent(5_000)]) == 1
    assert waiting_share([spent(None)]) is None


def test_too_few_undisturbed_loadings_are_unsure():
    good, bad = (Epoch([spent(waited)] * 2, (1.0,), (1.0,), 0.0) for waited in (0, 900))
    enough = summed_up([good] * MIN_EPOCHS + [bad] * 3, pauses=False, shapes=(0,), batch_size=1)
    few = summed_up([good] * (MIN_EPOCHS - 1) + [bad] * 3, pauses=False, shapes=(0,), batch_size=1)
    assert enough[0].unsure == ""
    assert "in 6 of 12 rounds" in few[0].unsure


def test_an_interval_of_more_than_the_widest_ratio_is_useless():
    assert too_wide(Interval(1, 1.2, WIDEST)) == ""
    assert too_wide(Interval(1, 1.2, WIDEST + 0.01)) != ""


def test_an_interval_far_from_one_may_be_wider():
    assert too_wide(Interval(2.6, 3.2, 3.92)) == ""
    assert too_wide(Interval(1 / 3.92, 1 / 3.2, 1 / 2.6)) == ""
    assert too_wide(Interval(WIDEST, 2, WIDEST_CLEAR * WIDEST)) == ""
    assert too_wide(Interval(WIDEST, 2, WIDEST_CLEAR * WIDEST + 0.01)) != ""
    assert too_wide(Interval(WIDEST - 0.01, 2, WIDEST * WIDEST)) != ""
    slower = 1 / WIDEST + 0.01
    assert too_wide(Interval(slower / (1.2 * WIDEST), slower, slower)) != ""


@pytest.mark.parametrize(("ratio", "share"), [(1.0, 0.0), (2.0, 0.0175), (4.0, 0.0353), (0.25, 0.0353)])
def test_the_interval_of_a_ratio_widens_with_its_distance_from_one(ratio, share):
    epochs = [ratio * factor for factor in (0.98, 0.99, 1.0, 1.01, 1.02)]
    plain, found = interval_over(epochs), interval_of_ratio(epochs)
    assert found.value == plain.value
    assert plain.low / found.low - 1 == pytest.approx(share, abs=0.0005)
    assert found.high / plain.high - 1 == pytest.approx(share, abs=0.0005)


def test_the_middle_of_two_times_is_their_mean():
    assert [middle_mean(np.array(times)) for times in ([4.0], [1.0, 3.0], [1.0, 2.0, 9.0])] == [4.0, 2.0, 2.0]


def test_the_baseline_shows_that_others_have_the_processor():
    quiet, loud = np.full(20, 100.0), np.array([100.0] * 5 + [300.0] * 15)
    kinds = np.zeros(20, int)
    for first, second, shown in ((quiet, loud, False), (loud, quiet, True)):
        both = Round((first, second), (first, second), kinds, None, 1_000)
        assert restless([both]) is shown
