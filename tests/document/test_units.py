import pytest

from onnxopt.document import units
from onnxopt.measure.statistics import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0899, "0.0899"),
        (0.255, "0.255"),
        (0.9996, "1.00"),
        (1.234, "1.23"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1234"),
        (float("nan"), "n/a"),
    ],
)
def test_three_significant_digits(value, text):
    assert units.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (903584, "904 kB"), (2.5e9, "2.50 GB")]
)
def test_sizes(value, text):
    assert units.size(value) == text


def test_shares_are_percent_and_points():
    assert units.score(0.9925, "share") == "99.25 %"
    assert units.score(0.5, "") == "0.5000"
    assert units.points(0.0125, "share") == "1.25"
    assert units.points(-0.00001, "share") == "0.00"
    assert units.points_interval(Interval(-0.01, 0.0, 0.02), "share") == "[-1.00, 2.00]"
    assert units.points(float("inf"), "share") == "all"


def test_a_probability_is_never_certain():
    assert units.percent(0.99999) == "99.9 %"


def test_counts_and_plurals():
    assert units.count(14_193_280) == "14.2 M"
    assert units.count(12) == "12"
    assert units.many(1, "thread") == "1 thread"
    assert units.many(2, "thread") == "2 threads"


@pytest.mark.parametrize(
    ("low", "value", "high", "text"),
    [
        (2.4, 2.5, 2.6, "2.50x faster [2.40, 2.60]"),
        (0.98, 1.0, 1.02, "as fast [0.98, 1.02]"),
        (1.0, 1.04, 1.08, "as fast [1.00, 1.08]"),
        (0.4, 0.5, 0.8, "2.00x slower [1.25, 2.50]"),
    ],
)
def test_a_speed_up_is_one_only_beyond_its_interval(low, value, high, text):
    assert units.faster(low, value, high) == text


@pytest.mark.parametrize(("ratio", "text"), [(3.5, "3.50x smaller"), (1.001, "as large"), (0.5, "2.00x larger")])
def test_sizes_are_compared_in_words(ratio, text):
    assert units.smaller(ratio) == text
