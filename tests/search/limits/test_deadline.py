"""Search and command end at their limits, and not before."""

import pytest

from onnxopt.measure.runtime.interrupt import TimeOver, raise_if_interrupted
from onnxopt.search.limits.deadline import GRACE_S
from tests.search.limits.clock import deadline


def test_a_search_ends_where_the_reserve_begins() -> None:
    found, clock = deadline(100, reserve_s=30)
    clock.now = 70
    assert not found.over()
    clock.now = 70.1
    assert found.over()
    assert not found.ended()
    found.look_up()
    assert not found.over(), "recorded results are read"
    found.begin()
    assert found.over()


def test_a_further_proof_takes_at_most_a_quarter_of_the_time_for_candidates() -> None:
    found, clock = deadline(100, reserve_s=20)
    found.reserve_for(15)
    assert found.reserve_s == 35
    found.reserve_for(1000)
    assert found.reserve_s == 35 + 65 / 4
    clock.now = 90
    found.reserve_for(10)
    assert found.reserve_s == 35 + 65 / 4, "no time is left for candidates"


def test_a_command_ends_after_its_limit_and_no_limit_is_shorter_than_the_least() -> None:
    found, clock = deadline(100)
    clock.now = 100
    assert not found.ended()
    clock.now = 100.1
    assert found.ended()
    short, clock = deadline(1)
    clock.now = 2
    assert (short.over(), short.ended(), short.left_s()) == (True, False, GRACE_S - 2)


def test_without_a_limit_nothing_ends() -> None:
    found, clock = deadline(None)
    clock.now = 1e9
    assert (found.over(), found.ended(), found.left_s()) == (False, False, float("inf"))
    with found.searching(), found.ending():
        raise_if_interrupted()


def test_work_is_cut_at_the_end_of_the_search_of_the_command_or_of_a_trial() -> None:
    found, clock = deadline(100, reserve_s=30)
    clock.now = 80
    with pytest.raises(TimeOver), found.searching():
        raise_if_interrupted()
    with found.ending():
        raise_if_interrupted()
        clock.now = 101
        with pytest.raises(TimeOver):
            raise_if_interrupted()
    unlimited, clock = deadline(None)
    with unlimited.ending(timeout_s=5):
        clock.now = 5
        raise_if_interrupted()
        clock.now = 5.1
        with pytest.raises(TimeOver):
            raise_if_interrupted()


def test_candidates_that_are_built_in_time_are_returned_and_none_after_it() -> None:
    found, clock = deadline(100)
    assert found.in_time(lambda: found.hurried) is True
    assert not found.hurried
    clock.now = 101
    assert found.in_time(raise_if_interrupted) is None
    assert not found.hurried
