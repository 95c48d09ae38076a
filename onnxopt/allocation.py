"""Allocation of a budget to parts, from tables of costs and losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from onnxopt.solver import IntegerProgram


class PricedLevel(NamedTuple):
    """One level of a part: its loss and its cost."""

    loss: float
    cost: float


def choose_levels(
    tables: Sequence[Sequence[PricedLevel]], *, cost_limit: float | None = None, loss_limit: float | None = None
) -> tuple[int, ...]:
    """Return one level per part: the least loss in all within a cost, or the least cost within a loss.

    A multiple-choice knapsack, solved exactly as an integer program. Of equal ones, the lower other number wins.
    When no choice is within the limit, the one that comes nearest to it.

    Args:
        tables: the options of each part, at least one; losses add up over parts, and so do costs.
        cost_limit: the largest cost of all parts together; exactly one of the limits is given.
        loss_limit: likewise.
    """
    if (cost_limit is None) == (loss_limit is None):
        raise ValueError("give one of cost_limit and loss_limit")
    if not tables:
        return ()
    by_cost = cost_limit is not None
    limit = cost_limit if cost_limit is not None else loss_limit
    assert limit is not None
    wanted = [[o.loss if by_cost else o.cost for o in table] for table in tables]
    spent = [[o.cost if by_cost else o.loss for o in table] for table in tables]
    cheapest = tuple(min(range(len(s)), key=lambda i: (s[i], w[i])) for s, w in zip(spent, wanted, strict=True))
    least = sum(s[i] for s, i in zip(spent, cheapest, strict=True))
    best = tuple(min(range(len(w)), key=lambda i: (w[i], s[i])) for s, w in zip(spent, wanted, strict=True))
    if sum(s[i] for s, i in zip(spent, best, strict=True)) <= limit:
        return best
    if least >= limit:
        return cheapest
    return _solved(wanted, spent, least, limit)


def _solved(
    wanted: Sequence[Sequence[float]], spent: Sequence[Sequence[float]], least: float, limit: float
) -> tuple[int, ...]:
    """Minimize the sum of `wanted` while that of `spent`, which can be `least`, is at most `limit`."""
    program, levels = IntegerProgram(), list[list[int]]()
    # Beyond the cheapest level of each part, as a share of the amount that there is to spend.
    over = [[(value - min(row)) / (limit - least) for value in row] for row in spent]
    gains = [[value - min(row) for value in row] for row in wanted]
    scale = max(*map(max, gains), 1e-300)
    for gain, spend in zip(gains, over, strict=True):
        # Of equal gains the lower spending.
        prices = [g / scale + 1e-9 * min(s, 1.0) for g, s in zip(gain, spend, strict=True)]
        levels.append([program.column(price, s, whole=True) for price, s in zip(prices, spend, strict=True)])
        program.row(dict.fromkeys(levels[-1], 1.0), 1.0, 1.0)
    found, _ = program.solved(1 - 1e-9, gap=1e-9, seconds=np.inf)
    assert found is not None, "the cheapest level of every part is a solution"
    return tuple(int(np.argmax(found[columns])) for columns in levels)


def greedy_counts(
    losses: Mapping[str, Sequence[float]],
    cost: Callable[[Mapping[str, int]], float],
    target: float,
    most: Mapping[str, int],
    steps: Mapping[str, int],
) -> dict[str, int]:
    """Return the number of units to remove per group so that the cost is at most `target`, or as near as it gets.

    Each round takes the step that loses least per cost saved; with convex losses that is the best allocation but for
    the last step.

    Args:
        losses: per group the error after removing its first, second, ... unit; it never falls.
        cost: the cost of a choice of counts; it falls where counts grow.
        target: the target of the cost.
        most: units that may go at most per group.
        steps: units that go at a time per group; the first step may be smaller, so that what stays is a multiple.
    """
    counts = dict.fromkeys(losses, 0)
    now = cost(counts)
    while now > target:
        best: tuple[float, float, dict[str, int]] | None = None
        for name, curve in losses.items():
            taken = next_count(counts[name], len(curve) + 1, steps[name])
            if taken > min(most[name], len(curve)):
                continue
            tried = {**counts, name: taken}
            spent = cost(tried)
            before = curve[counts[name] - 1] if counts[name] else 0.0
            price = max(curve[taken - 1] - before, 0.0) / max(now - spent, 1e-12 * max(abs(now), 1.0))
            if best is None or (price, spent) < best[:2]:
                best = price, spent, tried
        if best is None:
            break
        now, counts = best[1], best[2]
    return counts


def next_count(removed: int, size: int, step: int) -> int:
    """Return the next larger count of removed units with which a multiple of `step` stays of `size`."""
    kept = size - removed
    return size - (kept - 1) // step * step
