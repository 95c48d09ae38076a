from dataclasses import replace
from types import SimpleNamespace

import pytest

from onnxopt.errors import UsageError
from onnxopt.options.search import SearchOptions
from onnxopt.search.limits.stop_target import StopTarget
from onnxopt.search.presets import STRATEGIES, strategy_of
from onnxopt.search.trial import Candidate, Trial, Verdict


@pytest.mark.parametrize(
    ("kind", "text", "value", "relative"),
    [
        ("latency", "10ms", 10, False),
        ("latency", "0.5 s", 500, False),
        ("latency", "250us", 0.25, False),
        ("latency", "0.5x", 0.5, True),
        ("size", "2MB", 2e6, False),
        ("size", ".25x", 0.25, True),
    ],
)
def test_aims_are_read(kind, text, value, relative):
    aim = StopTarget.parse(kind, text)
    assert (aim.value, aim.relative) == (pytest.approx(value), relative)


@pytest.mark.parametrize(
    ("kind", "text"), [("latency", "2MB"), ("size", "3ms"), ("size", "1x"), ("latency", "0ms"), ("latency", "fast")]
)
def test_aims_that_make_no_sense(kind, text):
    with pytest.raises(UsageError, match="ONX101"):
        StopTarget.parse(kind, text)


def test_when_an_aim_is_reached():
    assert StopTarget.parse("size", "0.25x").reached(25, 100)
    assert not StopTarget.parse("size", "0.25x").reached(26, 100)
    assert StopTarget.parse("latency", "10ms").reached(10, 1000)
    assert not StopTarget.parse("latency", "10ms").reached(10.1, 1000)


def of_size(size_bytes):
    return Trial(Candidate("a", ()), Verdict.WITHIN, "", size_bytes=size_bytes)


def test_a_trial_reaches_a_size_by_its_file_and_a_latency_by_its_median():
    size, latency = StopTarget.parse("size", "0.5x"), StopTarget.parse("latency", "0.5x")
    assert [size.reached_by(of_size(n), 100) for n in (50, 51)] == [True, False]
    timed = [
        replace(of_size(1), latency=SimpleNamespace(p50_ms=ms), baseline_latency=SimpleNamespace(p50_ms=4.0))
        for ms in (2.0, 2.1)
    ]
    assert [latency.reached_by(trial, 100) for trial in timed] == [True, False]


@pytest.mark.parametrize("kind", ["size", "latency"])
def test_a_trial_that_was_not_measured_reaches_no_target(kind):
    assert not StopTarget.parse(kind, "0.5x").reached_by(of_size(None), 100)
    half_timed = replace(of_size(None), latency=SimpleNamespace(p50_ms=0.1))
    assert not StopTarget.parse(kind, "0.5x").reached_by(half_timed, 100)


def test_strategies_are_known_by_name():
    assert strategy_of("edge").prune
    assert all(not s.train or s.prune for s in STRATEGIES.values())
    with pytest.raises(UsageError, match="ONX102"):
        SearchOptions(strategy="cloud")
