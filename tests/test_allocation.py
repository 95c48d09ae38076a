import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.allocation import PricedLevel, choose_levels, greedy_counts, next_count


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, list[float]], dict[str, float], dict[str, int], dict[str, int]]:
    """Return convex losses, the cost of one unit, the most that may go and the step, per group."""
    losses, price, most, steps = {}, {}, {}, {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        size = draw(st.integers(2, 7))
        each = sorted(draw(st.lists(st.floats(0, 10), min_size=size - 1, max_size=size - 1)))
        losses[name] = np.cumsum(each).tolist()
        price[name] = draw(st.floats(0.5, 4))
        most[name] = draw(st.integers(0, size - 1))
        steps[name] = draw(st.sampled_from([1, 1, 2, 4]))
    return losses, price, most, steps


def loss_of(losses: dict[str, list[float]], counts: dict[str, int]) -> float:
    return sum(losses[name][count - 1] for name, count in counts.items() if count)


def reachable(size: int, most: int, step: int) -> list[int]:
    """Return the counts after which a multiple of `step` is left, and none."""
    return [0] + [n for n in range(1, min(most, size - 1) + 1) if (size - n) % step == 0]


@given(tables(), st.floats(0, 1))
def test_the_target_is_met_or_all_is_taken_that_may_go(some, share):
    losses, price, most, steps = some
    sizes = {name: len(curve) + 1 for name, curve in losses.items()}

    def cost(counts):
        return sum(price[n] * (sizes[n] - counts[n]) for n in sizes)

    target = share * cost(dict.fromkeys(sizes, 0))
    counts = greedy_counts(losses, cost, target, most, steps)
    options = {n: reachable(sizes[n], most[n], steps[n]) for n in sizes}
    assert all(counts[n] in options[n] for n in sizes)
    assert cost(counts) <= target or counts == {n: options[n][-1] for n in sizes}


@given(tables(), st.floats(0, 1))
def test_the_loss_is_the_least_but_for_the_last_step(some, share):
    losses, price, _, _ = some
    sizes = {name: len(curve) + 1 for name, curve in losses.items()}
    most, steps = {n: s - 1 for n, s in sizes.items()}, dict.fromkeys(sizes, 1)

    def cost(counts):
        return sum(price[n] * (sizes[n] - counts[n]) for n in sizes)

    target = share * cost(dict.fromkeys(sizes, 0))
    counts = greedy_counts(losses, cost, target, most, steps)
    every = [dict(zip(sizes, c, strict=True)) for c in itertools.product(*(range(s) for s in sizes.values()))]
    allowed = [loss_of(losses, c) for c in every if cost(c) <= target]
    if allowed:
        # Undoing any one step leaves a choice that is too dear, and no cheaper one loses less.
        last = (
            max(losses[n][c - 1] - (losses[n][c - 2] if c > 1 else 0.0) for n, c in counts.items() if c)
            if any(counts.values())
            else 0.0
        )
        assert loss_of(losses, counts) <= min(allowed) + last + 1e-9


def test_the_cheaper_loss_goes_first_and_a_dearer_one_when_it_saves_more():
    losses = {"a": [1.0, 2.0, 3.0], "b": [3.0, 6.0, 9.0]}
    most, steps = {"a": 3, "b": 3}, {"a": 1, "b": 1}
    assert greedy_counts(losses, lambda c: 8.0 - c["a"] - c["b"], 6.0, most, steps) == {"a": 2, "b": 0}
    assert greedy_counts(losses, lambda c: 20.0 - c["a"] - 4 * c["b"], 12.0, most, steps) == {"a": 0, "b": 2}


def test_nothing_goes_when_the_target_is_met_already():
    assert greedy_counts({"a": [0.0]}, lambda c: 1.0, 1.0, {"a": 1}, {"a": 1}) == {"a": 0}


@pytest.mark.parametrize(
    ("size", "step", "expected"), [(8, 1, [1, 2, 3, 4, 5, 6, 7, 8]), (10, 4, [2, 6, 10]), (8, 8, [8]), (3, 8, [3])]
)
def test_steps_leave_multiples(size, step, expected):
    found = [next_count(0, size, step)]
    while found[-1] < size:
        found.append(next_count(found[-1], size, step))
    assert found == expected


options = st.lists(st.builds(PricedLevel, st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(options, min_size=1, max_size=4), st.floats(0, 40), st.booleans())
def test_no_other_choice_of_levels_within_the_limit_is_better(tables, limit, by_cost):
    wanted, spent = ("loss", "cost") if by_cost else ("cost", "loss")
    levels = choose_levels(tables, **{f"{spent}_limit": limit})

    def total(what, mix):
        return sum(getattr(table[level], what) for table, level in zip(tables, mix, strict=True))

    mixes = list(itertools.product(*(range(len(table)) for table in tables)))
    inside = [total(wanted, mix) for mix in mixes if total(spent, mix) <= limit - 1e-6]
    if inside:
        assert total(spent, levels) <= limit + 1e-6
        assert total(wanted, levels) <= min(inside) + 1e-6
    elif not any(total(spent, mix) <= limit + 1e-6 for mix in mixes):
        assert total(spent, levels) == pytest.approx(min(total(spent, mix) for mix in mixes))


def test_of_equal_losses_the_cheaper_level_is_taken():
    tables = [[PricedLevel(1, 9), PricedLevel(1, 2)], [PricedLevel(0, 5), PricedLevel(3, 1)]]
    assert choose_levels(tables, cost_limit=100) == (1, 0)
    assert choose_levels(tables, cost_limit=7) == (1, 0)
    assert choose_levels(tables, cost_limit=4) == (1, 1)
    assert choose_levels(tables, loss_limit=1) == (1, 0)


def test_levels_need_one_limit():
    assert choose_levels([], cost_limit=1) == ()
    with pytest.raises(ValueError, match="one of"):
        choose_levels([[PricedLevel(0, 0)]])
    with pytest.raises(ValueError, match="one of"):
        choose_levels([[PricedLevel(0, 0)]], cost_limit=1, loss_limit=1)
