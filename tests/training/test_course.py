"""A learning rate that leads away from a good start is lowered, and no other."""

import math

import pytest

from onnxopt.model_file import to_bytes
from onnxopt.training import course
from onnxopt.training.course import AWAY, LOWER, MOST_LOWERED, Course
from onnxopt.training.distill import Distillation, distill
from onnxopt.training.schedule import Schedule
from tests import builders
from tests.training.test_distill import Interrupted, data, spoiled

TOO_HIGH = Schedule(1, batch_size=16, lr=0.5, evaluations=20, patience=20)


def test_from_a_good_start_a_rate_that_is_too_high_still_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = builders.BUILDERS["residual_cnn"]()
    options = Distillation(steps=60, schedule=TOO_HIGH)
    done = distill(spoiled(teacher), teacher, data(teacher), options).trained
    assert done is not None
    assert done.after < 0.7 * done.before
    assert done.history[0].score > AWAY * done.before
    monkeypatch.setattr(course, "MOST_LOWERED", 0)
    harmed = distill(spoiled(teacher), teacher, data(teacher), options).trained
    assert harmed is not None
    assert harmed.after > done.after


def test_a_training_whose_rate_was_lowered_is_resumed(tmp_path) -> None:
    teacher = builders.BUILDERS["residual_cnn"]()
    plain = Distillation(steps=40, schedule=TOO_HIGH)
    whole = to_bytes(distill(spoiled(teacher), teacher, data(teacher), plain).model)

    def stop(done: int, _: int) -> None:
        if done == 21:
            raise Interrupted

    saved = Distillation(**{**vars(plain), "checkpoint": tmp_path / "state.pt"})
    with pytest.raises(Interrupted):
        distill(spoiled(teacher), teacher, data(teacher), saved, progress=stop)
    assert to_bytes(distill(spoiled(teacher), teacher, data(teacher), saved).model) == whole
    assert whole != to_bytes(spoiled(teacher))


@pytest.mark.parametrize(("score", "away"), [(1.5, False), (1.51, True), (math.nan, True), (math.inf, True)])
def test_only_a_score_far_above_the_start_leads_away(score: float, away: bool) -> None:
    assert Course(1.0, {}, 1.0).leads_away(score) is away


def test_after_a_better_score_the_rate_stays() -> None:
    begun = Course(1.0, {}, 1.0)
    begun.learn(0.9, {"weights": 1})
    assert not begun.leads_away(9.0)
    assert (begun.best, begun.kept, begun.stale) == (0.9, {"weights": 1}, 0)
    begun.learn(0.95, None)
    assert (begun.best, begun.stale) == (0.9, 1)


def test_a_lower_rate_takes_the_steps_that_are_left() -> None:
    begun = Course(1.0, {}, 1.0, step=40, stale=3)
    begun.lower()
    assert (begun.begun, begun.stale, begun.factor) == (40, 0, LOWER)
    schedule = Schedule(100, lr=1.0, warmup=0.05)
    assert schedule.rate(40, 40) == pytest.approx(1 / 3), "60 steps are left, three of them to warm up"
    assert schedule.rate(43, 40) == 1.0
    assert schedule.rate(99, 40) < 0.01


def test_it_is_not_lowered_for_ever() -> None:
    assert not Course(1.0, {}, 1.0, lowered=MOST_LOWERED).leads_away(9.0)
