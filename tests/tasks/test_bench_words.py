from dataclasses import replace

import pytest

from onnxopt.tasks.bench_words import compared, said_of, warning_of
from tests.run import fakes


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        ((1.72, 1.74, 1.76), "B is 1.74x faster than A [1.72, 1.76]"),
        ((0.48, 0.50, 0.52), "B is 2.00x slower than A [1.92, 2.08]"),
        ((0.98, 1.01, 1.03), "B is as fast as A [0.98, 1.03]"),
    ],
)
def test_a_ratio_in_words(interval, says):
    assert compared("B", "A", *interval) == says


def test_each_model_is_held_against_the_first():
    timed = {"a": fakes.latency(1.0), "b": fakes.latency(0.5, 2.0), "c": fakes.latency(2.0, 0.5)}
    assert said_of(timed) == [
        "At batch size 1, b is 2.00x faster than a [1.98, 2.03].",
        "At batch size 1, c is 2.00x slower than a [1.89, 2.08].",
    ]


def test_a_noisy_host_is_called_so():
    quiet = fakes.latency(1.0)
    assert warning_of({"a": quiet}) is None
    noisy = replace(quiet, epochs_ms=(1.0, 1.0, 1.3, 1.0))
    assert "varied by 30 %" in (warning_of({"a": noisy}) or "")
    assert warning_of({"a": replace(quiet, epochs_ms=(1.0, 2.0))}) is None
    assert "waited for a processor 30 %" in (warning_of({"a": replace(quiet, waited=0.3)}) or "")


def test_an_unsure_clock_names_no_number():
    timed = {"a": fakes.latency(1.0), "b": replace(fakes.latency(0.5), unsure="the host was busy")}
    assert said_of(timed) == ["At batch size 1, the speed of b is unsure: the host was busy."]
