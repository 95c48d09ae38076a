"""Layers in float: their order, and how many of them a budget needs."""

from dataclasses import replace
from math import inf
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxopt.measure.latency import Latency
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.options.search import Goal
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Edit
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.losses import losses_of
from onnxopt.search.mix.float_layers import ROUNDS, FloatCounts, by_loss_per_work, keep_harmful_layers, losses_in_time
from onnxopt.search.trial import Candidate, Trial, Verdict


def counts_tried(losses: list[float], needed: int, over: float) -> list[int]:
    """Return the counts that are tried where `needed` layers in float are enough and drops follow the losses."""
    counts, tried = FloatCounts(losses, over), list[int]()
    while (count := counts.next()) is not None and len(tried) < 20:
        tried.append(count)
        rest = sum(losses[count:]) / sum(losses)
        counts.learn(count, over * rest, good=count >= needed)
    return tried


def test_the_first_count_is_predicted_from_the_losses() -> None:
    """A drop of four budgets: an eighth of the losses may stay for half of the budget."""
    losses = [40.0, 30.0, 10.0, 10.0, 5.0, 3.0, 2.0]
    assert counts_tried(losses, needed=4, over=4.0)[0] == 4
    assert counts_tried(losses, needed=1, over=1.2)[0] == 2


def test_a_count_that_is_too_small_is_followed_by_a_larger_one() -> None:
    losses = [1.0] * 10
    tried = counts_tried(losses, needed=9, over=1.1)
    assert tried[:2] == [6, 8]
    assert tried[-1] == 9


def test_a_count_that_is_enough_is_followed_by_a_smaller_one() -> None:
    assert counts_tried([1.0] * 64, needed=20, over=10.0) == [61, 30, 15, 22, 18]


@pytest.mark.parametrize("needed", range(1, 40))
@pytest.mark.parametrize("over", [1.01, 3.0, 40.0, inf])
def test_the_search_ends_near_the_fewest_layers_that_are_enough(needed: int, over: float) -> None:
    losses = [0.9**k for k in range(40)]
    tried = counts_tried(losses, needed, over)
    enough = [count for count in tried if count >= needed]
    assert min(enough) - needed < 40 // 16
    assert len(tried) == len(set(tried)) <= 2 * ROUNDS


def test_one_layer_stays_in_int8() -> None:
    assert counts_tried([1.0, 1.0], needed=2, over=9.0) == [1]
    assert counts_tried([1.0], needed=1, over=9.0) == []
    assert counts_tried([], needed=1, over=9.0) == []


def test_layers_with_little_work_and_much_loss_come_first() -> None:
    losses = {"large": 4.0, "small": 2.0, "exact": 0.0, "tiny": 0.1}
    work = {"large": 1000, "small": 10, "exact": 10, "tiny": 1}
    assert list(by_loss_per_work(losses, work)) == ["small", "tiny", "large", "exact"]
    assert list(by_loss_per_work(losses, {**work, "large": 0})) == ["large", "small", "tiny", "exact"]


def test_a_layer_that_cannot_be_quantized_alone_comes_first_with_the_largest_loss_of_the_others() -> None:
    found = by_loss_per_work({"a": 0.1, "b": inf, "c": 0.2}, {"a": 1, "b": 9, "c": 1})
    assert found == {"b": 0.2, "c": 0.2, "a": 0.1}
    assert list(found) == ["b", "c", "a"]


def test_the_loss_of_a_layer_in_dynamic_int8_is_that_of_the_layer_alone() -> None:
    spec = QuantizeDynamic(per_channel=False, exclude=("b",))
    seen = []
    losses_of(spec, (), [["a"], ["b", "c"]], ["a", "b", "c"], lambda base, specs: seen.extend(specs) or [0.0, 0.0])
    assert seen == [
        QuantizeDynamic(per_channel=False, exclude=("b", "c")),
        QuantizeDynamic(per_channel=False, exclude=("a",)),
    ]


def test_each_loss_is_that_of_one_set_in_int8() -> None:
    harm = {"a": 0.1, "b": inf, "c": 0.2}

    def losses(base, specs):  # type: ignore[no-untyped-def]
        assert all(spec.placement == "all" for spec in specs)
        return [sum(harm[name] for name in {"a", "b", "c"} - set(spec.exclude)) for spec in specs]

    found = losses_of(QuantizeStatic(), (), [["a"], ["b"], ["a", "c"]], ["a", "b", "c"], losses)
    assert found == [0.1, inf, pytest.approx(0.3)]


@pytest.mark.parametrize(
    ("seconds", "sizes"), [(inf, [1] * 10), (10.0, [1] * 10), (3.0, [1, 1, 4, 4]), (0.5, [1, 1, 8])]
)
def test_neighbours_are_measured_together_where_time_is_short(seconds: float, sizes: list[int]) -> None:
    """Each measurement takes a second."""
    now, tried = [0.0], list[int]()

    def measured(sets):  # type: ignore[no-untyped-def]
        now[0] += len(sets)
        tried.extend(map(len, sets))
        return [float(len(some)) for some in sets]

    layers = [f"layer{i}" for i in range(10)]
    assert losses_in_time(layers, measured, seconds, lambda: now[0]) == dict.fromkeys(layers, 1.0)
    assert tried == sizes
    assert losses_in_time([], measured, seconds, lambda: now[0]) == {}
    assert list(losses_in_time(["a"], measured, seconds, lambda: now[0])) == ["a"]


def test_the_time_is_predicted_again_while_losses_are_measured() -> None:
    """The first two layers take a tenth of the time of the others."""
    now, costs = [0.0], iter([0.1, 0.1, *[1.0] * 40])

    def measured(sets):  # type: ignore[no-untyped-def]
        now[0] += sum(next(costs) for _ in sets)
        return [1.0] * len(sets)

    layers = [f"layer{i}" for i in range(40)]
    assert list(losses_in_time(layers, measured, 20.0, lambda: now[0])) == layers
    assert now[0] < 25


WHOLE = Candidate("static", (Simplify(), QuantizeStatic()))
DYNAMIC = Candidate("dynamic", (Simplify(), QuantizeDynamic()))
WORSE = Candidate("static-entropy", (Simplify(), QuantizeStatic(method="entropy")))
LEADER = Candidate("leader", WHOLE.passes)
LAYERS = tuple(f"layer{i}" for i in range(8))


class FakeTrials:
    """A search in which a candidate's drop follows from the number of its layers in INT8."""

    def __init__(self, *, leader_speedup: float | None = None, slow_from: int = 99, floor: float = 0.0) -> None:
        self.bar = Acceptance(Goal.LATENCY, 0.01, 0.95, 1000)
        self.deadline = SimpleNamespace(in_time=lambda work: work(), candidates_left_s=lambda: inf)
        self.made: list[Trial] = []
        self.slow_from, self.floor = slow_from, floor
        self.leader = None if leader_speedup is None else self.measured(LEADER, leader_speedup)

    def measured(self, candidate: Candidate, speedup: float = 2.0, drop: float | None = None) -> Trial:
        kept = len(candidate.passes[-1].exclude)  # type: ignore[attr-defined]
        value = max(0.08 - 0.012 * kept, self.floor) if drop is None else drop
        found = Drop(value, Interval(value, value, value), 1000, None, None, None, False, np.full(99, value))
        times = Latency(1, 1, 1, 1, 1, 1, Interval(speedup, speedup, speedup), None, 1, Interval(1, 1, 1))
        verdict = Verdict.SLOWER if kept >= self.slow_from else Verdict.WITHIN if value <= 0.01 else Verdict.OVER_BUDGET
        edits = tuple(Edit(name, "Conv to INT8") for name in LAYERS)
        return Trial(candidate, verdict, "", (SimpleNamespace(edits=edits),), 900, None, found, times, times)  # type: ignore[arg-type]

    def run(self, candidate: Candidate) -> Trial:
        self.made.append(self.measured(candidate))
        return self.made[-1]

    def enough(self) -> bool:
        return False

    def recall(self, note: str, fresh: object, read: object) -> dict[str, float]:
        assert note in ("losses of layers: static", "losses of layers: dynamic")
        return dict.fromkeys(LAYERS, 1.0)


def kept(trials: Any) -> list[int]:
    keep_harmful_layers(trials)
    return [len(t.candidate.passes[-1].exclude) for t in trials.made if t.candidate.passes[-1].exclude]


def test_as_few_layers_as_the_budget_needs_stay_in_float() -> None:
    trials = FakeTrials()
    trials.made = [trials.measured(WORSE, drop=0.2), trials.measured(WHOLE)]
    assert kept(trials) == [7, 3, 5, 6]
    assert kept(trials) == [7, 3, 5, 6], "layers of this candidate were kept before"


def test_a_small_drop_is_enough_where_too_few_samples_leave_it_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Acceptance, "accurate", lambda bar, trial: False)
    trials = FakeTrials()
    trials.made = [trials.measured(WHOLE)]
    assert kept(trials) == [7, 3, 5, 6]


def test_layers_stay_in_int8_where_a_static_candidate_is_within_budget() -> None:
    trials = FakeTrials()
    trials.made = [trials.measured(WHOLE), trials.measured(WORSE, drop=0.0)]
    assert kept(trials) == []


def test_layers_of_a_dynamic_candidate_stay_in_float_too() -> None:
    trials = FakeTrials()
    trials.made = [trials.measured(DYNAMIC)]
    assert kept(trials) == [7, 3, 5, 6]
    assert {type(t.candidate.passes[-1]) for t in trials.made} == {QuantizeDynamic}
    assert kept(trials) == [7, 3, 5, 6], "layers of this candidate were kept before"


def test_the_kind_of_the_smaller_drop_comes_first() -> None:
    trials = FakeTrials()
    trials.made = [trials.measured(WHOLE, drop=0.3), trials.measured(DYNAMIC)]
    keep_harmful_layers(trials)
    kinds = [type(t.candidate.passes[-1]) for t in trials.made[2:]]
    assert kinds == [QuantizeDynamic] * 4 + [QuantizeStatic] * (len(kinds) - 4)
    assert QuantizeStatic not in kinds[:4]


def test_a_kind_is_varied_even_if_the_other_kind_is_within_budget_but_slower() -> None:
    trials = FakeTrials(leader_speedup=1.5)
    trials.made = [trials.measured(WHOLE, speedup=1.5, drop=0.0), trials.measured(DYNAMIC, speedup=2.0)]
    assert kept(trials) == [7, 3, 5, 6]
    assert all(isinstance(t.candidate.passes[-1], QuantizeDynamic) for t in trials.made[1:])


def test_layers_of_the_best_candidate_so_far_stay_in_float_if_it_is_hardly_provable() -> None:
    """Half of the draws are over the budget: on the search samples it is within, for a proof it is not enough."""
    trials = FakeTrials()
    leading = trials.measured(WHOLE, drop=0.009)
    draws = np.where(np.arange(99) % 2, 0.005, 0.013)
    trials.made = [replace(leading, drop=replace(leading.drop, draws=draws))]
    trials.leader = trials.made[0]
    assert kept(trials)


def test_layers_stay_in_int8_where_int8_is_no_faster_than_the_best() -> None:
    trials = FakeTrials(leader_speedup=3.0)
    trials.made = [trials.measured(WHOLE)]
    assert kept(trials) == []
    slower = FakeTrials(leader_speedup=1.5)
    slower.made = [slower.measured(WHOLE)]
    assert kept(slower)


def test_the_search_for_layers_ends_where_float_layers_make_it_slower_than_the_baseline() -> None:
    trials = FakeTrials(slow_from=1, floor=0.02)
    trials.made = [trials.measured(WHOLE)]
    assert len(kept(trials)) == 1
