from pathlib import Path

import pytest

from onnxopt.measure.forms.axes import AXES, Bench
from onnxopt.measure.forms.deployment import Deployment
from onnxopt.measure.forms.session_file import ENTRIES
from onnxopt.options.runtime import FullRuntime

MODEL = Path("m.onnx")
ONE = Deployment(MODEL, FullRuntime())


def bench(threads=4, operators=("Conv",)):
    return Bench(threads, frozenset(operators), Path(), "m")


def choices(goal, axis, deployment=ONE, where=None):
    return AXES[goal][axis](deployment, where or bench())


@pytest.mark.parametrize(
    ("most", "counts"), [(1, []), (4, [2, 3, 4]), (8, [2, 3, 4, 5, 6, 7, 8]), (12, [2, 4, 8, 12]), (16, [2, 4, 8, 16])]
)
def test_threads_are_counted_up_to_the_most(most, counts):
    made = [make() for make in choices("latency", "threads", where=bench(most)).values()]
    assert [one.runtime.threads for one in made] == counts
    assert "1 thread" in choices("latency", "threads", ONE.with_threads(2))


@pytest.mark.parametrize(
    ("axis", "goal"),
    [
        ("spinning", "latency"),
        ("division of work", "latency"),
        ("packing threads", "cold-start"),
        ("spinning", "throughput"),
    ],
)
def test_questions_about_several_threads_are_not_put_to_one(axis, goal):
    assert not choices(goal, axis)
    assert choices(goal, axis, ONE.with_threads(2))


def test_branches_run_side_by_side_only_with_several_threads():
    assert not choices("latency", "branches", where=bench(1))
    (make,) = choices("latency", "branches", ONE.with_threads(4)).values()
    assert (make().runtime.threads, make().runtime.inter_threads) == (1, 4)


@pytest.mark.parametrize("axis", ["layout", "convolutions"])
def test_choices_about_convolutions_need_one(axis):
    assert not choices("latency", axis, where=bench(operators=("MatMul",)))
    assert choices("latency", axis)


def test_switches_of_the_blocked_layout_need_it():
    (plain,) = choices("latency", "layout").values()
    assert not choices("latency", "convolutions", plain())


def test_the_level_of_optimization_is_open_only_for_the_original_file():
    assert not choices("cold-start", "optimization", Deployment(MODEL, FullRuntime(), "prepacked"))
    levels = {make().runtime.optimization for make in choices("cold-start", "optimization").values()}
    assert levels == {"extended", "basic", "none"}


def test_every_choice_can_be_written_to_a_session_file():
    for goal, axes in AXES.items():
        for name, axis in axes.items():
            if name == "form":
                continue
            for make in axis(ONE.with_threads(4), bench()).values():
                for key, value in make().runtime.options:
                    assert value in ENTRIES[key], (goal, name)
