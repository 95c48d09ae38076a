"""Notable candidates: the smallest, the fastest, the Pareto front, and the knee of its curve."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxopt.search.acceptance import SAME
from onnxopt.search.trial import Trial, Verdict

INSIDE = (Verdict.WINNER, Verdict.WITHIN)
"""Verdicts on candidates within every limit; failures on the hold-out samples are excluded."""
COMPARED = (*INSIDE, Verdict.OVER_BUDGET)
"""Verdicts on candidates that a trade-off may show: measured, and neither refused nor disproved."""
LEAST_POINTS = 4
_LEAST_BEND = 0.25
"""Smallest distance of the curve below its chord, relative to the whole range: less is a straight line with noise."""


@dataclass(frozen=True)
class CandidateFigures:
    """The figures of a measured candidate; smaller is better.

    Attributes:
        time: latency relative to the baseline.
        size_bytes: size of its file.
    """

    name: str
    verdict: Verdict
    time: float
    size_bytes: int


def figures_of(trial: Trial) -> CandidateFigures | None:
    """Return the figures of a trial; None if its size or speed-up was not measured."""
    speedup = trial.latency.speedup if trial.latency is not None else None
    if speedup is None or trial.size_bytes is None:
        return None
    return CandidateFigures(trial.candidate.name, trial.verdict, 1 / speedup.value, trial.size_bytes)


def smallest_and_fastest(points: Sequence[CandidateFigures]) -> tuple[str | None, str | None]:
    """Return the names of the smallest and of the fastest candidate within every limit; None without any.

    Of two whose difference in speed is within noise, the proven one counts as the fastest.
    """
    inside = [point for point in points if point.verdict in INSIDE]
    if not inside:
        return None, None
    smallest, fastest = min(inside, key=lambda p: p.size_bytes), min(inside, key=lambda p: p.time)
    proven = next((p for p in inside if p.verdict is Verdict.WINNER), None)
    even = proven is not None and fastest.time * SAME >= proven.time
    return smallest.name, proven.name if proven is not None and even else fastest.name


def pareto_front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the measured trials that no other trial dominates in speed, size and score.

    The fastest comes first. Trials that are slower or larger than the baseline, or that failed on the hold-out samples,
    are left out.
    """
    measured = [t for t in trials if t.verdict in COMPARED and _costs(t) is not None]
    front = [t for t in measured if not any(_beats(other, t) for other in measured)]
    return tuple(sorted(front, key=lambda t: _costs(t) or ()))


def _beats(one: Trial, other: Trial) -> bool:
    a, b = _costs(one), _costs(other)
    assert a is not None
    assert b is not None
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _costs(trial: Trial) -> tuple[float, float, float] | None:
    """Return relative time, bytes and drop: smaller is better in each."""
    point = figures_of(trial)
    if point is None or trial.drop is None or trial.drop.broken:
        return None
    return point.time, float(point.size_bytes), trial.drop.value


def knee_of(points: Sequence[tuple[float, float]]) -> int | None:
    """Return the index of the last point before the loss rises steeply; None without a clear one.

    Args:
        points: compression and loss of the best models, by rising compression; the first is the baseline.

    Source: Satopaa et al., "Finding a 'Kneedle' in a haystack", 2011: the point farthest below the chord of the curve,
    both axes scaled to 1.
    """
    if len(points) < LEAST_POINTS:
        return None
    (left, low), (right, high) = points[0], points[-1]
    if not (right > left and high > low):
        return None
    below = [(x - left) / (right - left) - (y - low) / (high - low) for x, y in points]
    place = max(range(len(points)), key=below.__getitem__)
    return place if below[place] >= _LEAST_BEND else None


def envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point dominates, by rising compression and loss."""
    found = list[tuple[float, float]]()
    for x, y in sorted(points, key=lambda point: (-point[0], point[1])):
        if not found or y < found[-1][1]:
            found.append((x, y))
    return found[::-1]
