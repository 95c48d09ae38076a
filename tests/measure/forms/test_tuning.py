"""The search for settings, by figures that are made up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from onnxopt.errors import ModelError
from onnxopt.measure.forms.axes import Bench
from onnxopt.measure.forms.deployment import Deployment
from onnxopt.measure.forms.figures import Measured
from onnxopt.measure.forms.tuning import tuned
from onnxopt.measure.statistics import Interval
from onnxopt.options.runtime import FullRuntime

DEFAULT = Deployment(Path("m.onnx"), FullRuntime())
BENCH = Bench(1, frozenset(), Path(), "m")


@dataclass
class FakeClock:
    """Speeds by name of a choice: its settings are told apart by an entry of that name."""

    speeds: Mapping[str, float]
    spread: float = 0.05
    unsure: frozenset[str] = frozenset()
    calls: list[list[str]] = field(default_factory=list)

    def speed(self, deployment):
        total = 1.0
        for name, _ in deployment.runtime.options:
            total *= self.speeds[name]
        return total

    def __call__(self, goal, deployments):
        self.calls.append(list(deployments))
        first = self.speed(next(iter(deployments.values())))
        found = {}
        for number, (name, deployment) in enumerate(deployments.items()):
            ratio = self.speed(deployment) / first
            why = "busy" if name in self.unsure else ""
            interval = None if why or not number else Interval(ratio - self.spread, ratio, ratio + self.spread)
            found[name] = Measured(1 / ratio, interval, why)
        return found


def axis(*names):
    return lambda deployment, bench: {name: lambda name=name: deployment.having((name, "1")) for name in names}


def search(axes, clock, same=lambda deployment: ""):
    return tuned(DEFAULT, axes, BENCH, goal="latency", clock=clock, same=same)


def chosen(result):
    return [name for name, _ in result.best.runtime.options]


def test_the_surest_choice_of_each_axis_is_kept_and_the_next_starts_from_it():
    clock = FakeClock({"a": 1.2, "b": 1.5, "c": 1.1, "d": 0.5})
    result = search({"one": axis("a", "b"), "two": axis("c", "d")}, clock)
    assert chosen(result) == ["b", "c"]
    assert clock.calls == [["so far", "a", "b"], ["so far", "c", "d"], ["default", "chosen"]]
    assert result.measured.ratio.value == pytest.approx(1.65)
    assert [(t.axis, t.name, t.why) for t in result.trials] == [
        ("one", "a", "another is better still"),
        ("one", "b", ""),
        ("two", "c", ""),
        ("two", "d", "worse"),
    ]


def test_a_choice_whose_interval_reaches_one_keeps_the_default():
    result = search({"one": axis("a")}, FakeClock({"a": 1.04}))
    assert (result.best, result.measured, result.reason) == (DEFAULT, None, "no choice is significantly better")
    assert result.trials[0].why == "not significantly better"


def test_a_choice_that_the_clock_is_unsure_of_keeps_the_default():
    result = search({"one": axis("a")}, FakeClock({"a": 3.0}, unsure=frozenset({"a"})))
    assert result.best == DEFAULT
    assert result.trials[0].why == "unsure: busy"


def test_the_choices_together_must_be_better_than_the_default_once_more():
    result = search({"one": axis("a")}, FakeClock({"a": 3.0}, unsure=frozenset({"chosen"})))
    assert (result.best, result.measured) == (DEFAULT, None)
    assert result.reason == "the choices together are not significantly better: unsure: busy"


def test_a_choice_with_other_outputs_is_never_measured():
    clock = FakeClock({"a": 3.0, "b": 1.2})
    result = search(
        {"one": axis("a", "b")}, clock, same=lambda v: "other outputs" if ("a", "1") in v.runtime.options else ""
    )
    assert chosen(result) == ["b"]
    assert clock.calls[0] == ["so far", "b"]
    assert (result.trials[0].name, result.trials[0].why, result.trials[0].value) == ("a", "other outputs", None)


def test_a_choice_that_cannot_be_made_is_refused_with_the_reason():
    def broken(deployment, bench):
        def fail():
            raise ModelError("ONX304", "ONNX Runtime cannot load the model", why="too large")

        return {"a": fail}

    clock = FakeClock({})
    result = search({"one": broken, "none": lambda deployment, bench: {}}, clock)
    assert (result.best, clock.calls) == (DEFAULT, [])
    assert result.trials[0].why == "too large"


def test_progress_counts_axes_and_the_last_measurement():
    seen = []
    tuned(
        DEFAULT,
        {"one": axis("a")},
        BENCH,
        goal="latency",
        clock=FakeClock({"a": 2}),
        same=lambda v: "",
        progress=lambda *p: seen.append(p),
    )
    assert seen == [(1, 2), (2, 2)]
