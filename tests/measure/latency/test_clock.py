"""The clock on a simulated host: planted ratios beside preemptions, with no real time in it."""

import gc

import numpy as np
import pytest
from simulated_host import MS, US, Host, session_of

from onnxopt.measure.latency import Latency, measure, measure_latency, race, rounds
from onnxopt.measure.latency.rounds import BLOCK_NS, LONGEST_BLOCK_NS, repeats_of
from onnxopt.measure.runtime.session import Runtime

FEEDS = {"x": np.ones((1, 3), np.float32)}
BUSY = {"slice_ns": 3 * MS, "away_ns": 4 * MS}


def measured(
    monkeypatch, host, models, *, pauses=True, tells=True, inputs=(FEEDS,), seconds=0.3, **options
) -> dict[str, Latency]:
    monkeypatch.setattr(measure, "Session", session_of(host))
    monkeypatch.setattr(rounds.gc, "collect", lambda: 0)  # which takes longer than all the rest
    return measure_latency(
        models,
        inputs,
        Runtime(),
        seconds=seconds,
        watch=host.watch(pauses=pauses, tells=tells),
        emulation=lambda: None,
        seed=host.seed,
        **options,
    )


def test_a_busy_loop_on_the_same_processor_fools_no_speed_up(monkeypatch):
    for seed in range(20):
        found = measured(monkeypatch, Host(**BUSY, seed=seed), {"slow": 1.9 * MS, "fast": 1.0 * MS})["fast"]
        assert not found.unsure
        assert not found.speedup.excludes(1.9)
        assert found.speedup.high < 1.1 * found.speedup.low


def test_long_runs_that_are_all_preempted_keep_their_ratio(monkeypatch):
    for seed in range(3):
        host = Host(**BUSY, seed=seed)
        found = measured(monkeypatch, host, {"slow": 40 * MS, "fast": 10 * MS}, seconds=2)["fast"]
        assert not found.speedup.excludes(4.0)


def test_a_model_is_as_fast_as_itself_on_a_busy_host(monkeypatch):
    told_apart = [
        measured(monkeypatch, Host(**BUSY, seed=seed), {"a": MS, "b": MS})["b"].speedup.excludes(1.0)
        for seed in range(40)
    ]
    assert sum(told_apart) <= 1


def test_threads_that_always_wait_leave_the_speed_up_unsure(monkeypatch):
    found = measured(monkeypatch, Host(**BUSY), {"slow": 1.9 * MS, "fast": MS}, pauses=False)
    for one in found.values():
        assert "kept its threads waiting" in one.unsure
        assert one.speedup is None
        assert one.waited > 0.1


def test_rounds_in_which_a_thread_waited_are_left_out(monkeypatch):
    for seed in range(3):
        host = Host(slice_ns=40 * MS, away_ns=50 * MS, seed=seed)
        found = measured(monkeypatch, host, {"slow": 1.9 * MS, "fast": MS}, pauses=False, seconds=1.5)["fast"]
        assert not found.unsure
        assert not found.speedup.excludes(1.9)
        assert found.speedup.high < 1.08 * found.speedup.low


def test_a_quiet_host_is_sure_of_several_threads(monkeypatch):
    found = measured(monkeypatch, Host(), {"slow": 1.9 * MS, "fast": MS}, pauses=False)["fast"]
    assert not found.unsure
    assert not found.speedup.excludes(1.9)


@pytest.mark.parametrize(("busy", "unsure"), [(BUSY, True), ({}, False)])
def test_without_statistics_of_waiting_the_spread_of_runs_tells(monkeypatch, busy, unsure):
    found = measured(monkeypatch, Host(**busy), {"slow": 1.9 * MS, "fast": MS}, pauses=False, tells=False)["fast"]
    assert bool(found.unsure) is unsure


def test_loadings_that_differ_wildly_leave_the_speed_up_unsure(monkeypatch):
    found = measured(monkeypatch, Host(apart=0.3), {"slow": 1.9 * MS, "fast": MS})["fast"]
    assert "varied so much" in found.unsure
    assert found.speedup is None


def test_an_unsure_result_is_loaded_and_timed_once_more_as_often(monkeypatch):
    calls = []
    models = {"slow": 1.9 * MS, "fast": MS}
    for seed in range(20):
        host = Host(apart=0.11, seed=seed)
        short = measured(monkeypatch, host, models, lengthen=False)["fast"]
        host = Host(apart=0.11, seed=seed)
        found = measured(monkeypatch, host, models, progress=lambda *told: calls.append(told))["fast"]
        assert calls[-1] == ((16, 16) if short.unsure else (8, 8))
        assert len(found.epochs_ms) == calls[-1][0]
        if not short.unsure:
            assert found == short
    assert {calls_of for calls_of in calls if calls_of[0] == calls_of[1]} == {(8, 8), (16, 16)}


def test_the_speed_up_is_the_ratio_of_the_times_beside_it(monkeypatch):
    for host in (Host(), Host(**BUSY, apart=0.05)):
        found = measured(monkeypatch, host, {"slow": 1.9 * MS, "fast": MS})
        assert found["fast"].speedup.value == pytest.approx(found["slow"].p50_ms / found["fast"].p50_ms)
        assert found["slow"].speedup is None
        assert found["fast"].load_ms == 7


def test_the_speed_up_is_that_of_the_whole_set_of_inputs(monkeypatch):
    inputs = [{"x": np.ones((1, length), np.float32)} for length in (1, 2, 30)]
    models = {
        "slow": lambda feeds: 100 * US * feeds["x"].shape[1],
        "fast": lambda feeds: 20 * US * feeds["x"].shape[1] + 100 * US,
    }
    found = measured(monkeypatch, Host(), models, inputs=inputs)["fast"]
    assert not found.speedup.excludes(33 * 100 / (33 * 20 + 300))
    assert found.inputs == 3


def raced(host, durations, *, budget_ns=200 * MS, min_rounds=3, warmup=2, seed=0, inputs=1):
    runs = [[host.run(name, ns)] * inputs for name, ns in durations.items()]
    rng = np.random.default_rng(seed)
    watch = host.watch(pauses=True)
    return race(runs, budget_ns=budget_ns, min_rounds=min_rounds, warmup=warmup, rng=rng, watch=watch)


def test_every_round_runs_all_models_equally_often():
    for one in raced(Host(jitter=0), {"fast": 0.1 * MS, "slow": 1.5 * MS}):
        assert [len(times) for times in one.own_ns] == [20, 20]
        assert one.own_ns[0].tolist() == [0.1 * MS] * 20


def test_a_block_is_long_enough_for_the_fastest_and_no_longer_than_the_slowest_may_take():
    assert repeats_of(np.array([0.1 * MS, 0.2 * MS])) * 0.1 * MS >= BLOCK_NS
    assert repeats_of(np.array([0.01 * MS, 50 * MS])) * 50 * MS <= LONGEST_BLOCK_NS
    assert repeats_of(np.array([300 * MS])) == 1


def test_rounds_go_on_until_the_time_is_used_or_the_fewest_are_done():
    host = Host()
    raced(host, {"a": MS}, budget_ns=500 * MS)
    assert 500 * MS < host.wall_ns < 540 * MS
    assert len(raced(Host(), {"a": 1000 * MS}, budget_ns=MS, min_rounds=5)) == 5


def test_inputs_follow_each_other_over_rounds():
    made = raced(Host(), {"a": 1.5 * MS}, inputs=5)
    assert np.concatenate([one.inputs for one in made])[:7].tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_the_order_of_models_changes_and_follows_the_seed():
    def order(seed):
        host = Host()
        raced(host, {"a": 5 * MS, "b": 5 * MS}, seed=seed)
        return host.calls

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_only_quick_models_start_a_block_with_an_untimed_run():
    quick, slow = Host(), Host()
    raced(quick, {"quick": 5 * MS}, min_rounds=4, budget_ns=1)
    raced(slow, {"slow": 500 * MS}, min_rounds=4, budget_ns=1)
    assert len(quick.calls) == 2 + 4 * 2
    assert len(slow.calls) == 1 + 4


def test_garbage_is_not_collected_while_timing_and_is_afterwards():
    host, seen = Host(), []
    run = lambda: seen.append(gc.isenabled()) or host.work(MS)  # noqa: E731
    rng = np.random.default_rng(0)
    race([[run]], budget_ns=1, min_rounds=2, warmup=1, rng=rng, watch=host.watch(pauses=True))
    assert seen[0]  # warming up
    assert not any(seen[1:])
    assert gc.isenabled()
