"""How much to take from each part, given what it costs and what it saves. Pure tables in, levels out."""

from collections.abc import Callable, Mapping, Sequence


def greedy(
    losses: Mapping[str, Sequence[float]],
    cost: Callable[[Mapping[str, int]], float],
    target: float,
    most: Mapping[str, int],
    steps: Mapping[str, int],
) -> dict[str, int]:
    """Return how many units to remove per group so that the cost is at most `target`, or as near as it gets.

    Each round takes the step that loses least per cost saved; with convex losses that is the best allocation but for
    the last step.

    Args:
        losses: per group the error after removing its first, second, ... unit; it never falls.
        cost: of a choice of counts; it falls where counts grow.
        target: of the cost.
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
