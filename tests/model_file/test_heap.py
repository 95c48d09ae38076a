"""Objects of large graphs are set aside while passes run, and Python looks through them again afterwards."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from onnxopt.model_file import heap
from onnxopt.model_file.heap import drop_graphs, set_aside, without_collections


class Linked:
    """An object that holds itself, so that only a look for garbage frees it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a thousand objects be many, and none set aside before: the suite sets aside all tests."""
    monkeypatch.setattr(heap, "_MANY", 1000)
    gc.unfreeze()
    yield
    left = gc.get_freeze_count()
    gc.freeze()
    assert not left


def many() -> list[list[int]]:
    with without_collections():
        return [[i] for i in range(2000)]


def test_what_is_made_is_set_aside_until_the_work_is_over() -> None:
    with set_aside(1000):
        known = gc.get_freeze_count()
        kept = many()
        assert gc.get_freeze_count() - known >= len(kept)
    assert not gc.get_freeze_count()


def test_garbage_of_the_work_is_found_afterwards() -> None:
    with set_aside(1000):
        made = Linked()
        seen = weakref.ref(made)
        kept = many()
        del made
        gc.collect()
        assert seen() is not None  # it is set aside
    gc.collect()
    assert seen() is None
    assert kept


def test_garbage_of_earlier_work_is_freed_where_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, freed in ((10_000_000, False), (1000, True)):
        monkeypatch.setattr(heap, "_MOST", most)
        made = Linked()
        seen = weakref.ref(made)
        del made
        with set_aside(1000):
            assert (seen() is None) is freed


def test_dropped_graphs_are_freed_within_the_work() -> None:
    with set_aside(1000):
        made = Linked()
        seen = weakref.ref(made)
        kept = many()
        del made
        drop_graphs()
        assert seen() is None
        assert gc.get_freeze_count() >= len(kept)  # the others stay aside


def test_garbage_is_looked_for_when_very_many_objects_are_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_MOST", 1)
    with set_aside(1000):
        made = Linked()
        seen = weakref.ref(made)
        del made
        kept = many()
        assert seen() is None
        assert gc.get_freeze_count() >= len(kept)


@pytest.mark.parametrize("work", ["small", "none"])
def test_small_work_sets_nothing_aside(work: str) -> None:
    if work == "none":
        assert many()
        return
    with set_aside(999):
        assert many()
        assert not gc.get_freeze_count()


def test_within_other_work_nothing_is_taken_back() -> None:
    with set_aside(1000):
        with set_aside(1000):
            assert many()
        assert gc.get_freeze_count()


def test_objects_that_a_program_has_set_aside_stay_there() -> None:
    gc.freeze()
    try:
        with set_aside(1000):
            assert many()
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_nothing_happens_in_a_program_without_collections() -> None:
    gc.disable()
    try:
        with set_aside(1000):
            assert many()
            assert not gc.get_freeze_count()
    finally:
        gc.enable()
