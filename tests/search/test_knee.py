"""The knee is where a steep rise begins, and a line has none."""

import pytest

from onnxopt.search.front import envelope, knee_of


@pytest.mark.parametrize(
    ("points", "place"),
    [
        ([(1, 0), (2, 0.001), (3, 0.002), (4, 0.05)], 2),
        ([(1, 0), (2, 1), (3, 2), (4, 3)], None),
        ([(1, 0), (4, 0.0), (4.2, 0.3), (4.4, 0.6), (5, 0.9)], 1),
        ([(1, 0), (2, 0.001), (3, 0.5)], None),
        ([(1, 0), (2, 0), (3, 0), (4, 0)], None),
    ],
)
def test_the_knee_is_the_last_cheap_point(points: list[tuple[float, float]], place: int | None) -> None:
    assert knee_of(points) == place


def test_only_what_nothing_beats_is_a_curve() -> None:
    points = [(1.0, 0.0), (2.0, 0.3), (3.0, 0.1), (2.5, 0.0), (3.0, 0.2)]
    assert envelope(points) == [(2.5, 0.0), (3.0, 0.1)]
