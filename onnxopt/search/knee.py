"""The knee of a curve of loss over compression."""

from collections.abc import Sequence

LEAST_POINTS = 4
_LEAST_BEND = 0.25
"""Of the whole range, by which the curve must stay under its chord: less is a straight line with noise."""


def knee_of(points: Sequence[tuple[float, float]]) -> int | None:
    """Return the place of the last point before the loss rises steeply; None where there is no clear one.

    Args:
        points: compression and loss of the best models, by rising compression; the first is the original.

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
    """Return the points that no other beats at both, by rising compression and loss."""
    found = list[tuple[float, float]]()
    for x, y in sorted(points, key=lambda point: (-point[0], point[1])):
        if not found or y < found[-1][1]:
            found.append((x, y))
    return found[::-1]
