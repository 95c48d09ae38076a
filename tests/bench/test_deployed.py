"""The bench of deployed models: its own reading of outputs, and what its table says."""

import importlib

import numpy as np
import pytest


@pytest.fixture(scope="module")
def bench(bench_module):
    pytest.importorskip("PIL", reason="Pillow draws the inputs")
    return bench_module("deployed")


@pytest.fixture(scope="module")
def reading(bench):
    return importlib.import_module("deployed_reading")


@pytest.mark.parametrize(
    ("one", "other", "expected"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "abc", 0), ("ab", "ba", 2)]
)
def test_the_distance_of_texts_is_levenshteins(reading, one, other, expected):
    assert reading.distance(one, other) == expected


def test_repeats_and_blanks_are_no_characters(reading):
    steps = np.eye(4)[[0, 1, 1, 0, 1, 2, 0, 0]]
    assert len(reading.ctc({"y": steps[None]}, time_first=False)) == 3
    assert reading.ctc({"y": steps[:, None]}, time_first=True) == reading.ctc({"y": steps[None]}, time_first=False)


def test_boxes_are_kept_where_class_and_place_are_the_same(reading):
    pytest.importorskip("pycocotools", reason="the check of average precision")
    box = (0, 0.9, (10.0, 10.0, 30.0, 30.0))
    other, moved = (1, 0.9, box[2]), (0, 0.9, (60.0, 60.0, 80.0, 80.0))
    assert reading.boxes_kept([[box]], [[box]]) == pytest.approx(
        {"AP": 1, "AP50": 1, "kept": 1, "boxes": 1, "found": 1}
    )
    assert reading.boxes_kept([[box]], [[other, moved]])["kept"] == 0
    assert reading.boxes_kept([[box]], [[]])["AP"] == 0


def test_inputs_are_the_same_at_every_call_and_differ_from_each_other(bench):
    made = importlib.import_module("deployed_cases")
    for make in (made.text_line, made.text_angle, made.page, made.captcha, made.characters, made.sound):
        (first, again, next_one) = (next(iter(make(i).values())) for i in (4, 4, 6))
        assert np.array_equal(first, again)
        assert first.shape != next_one.shape or not np.array_equal(first, next_one)


def test_the_table_says_what_failed_and_what_was_kept(bench):
    failed = {"model": "a", "failed": "ONX209: no"}
    kept = {
        "model": "b",
        "metric": "AP",
        "winner": None,
        "drop": None,
        "confidence": None,
        "speedup": None,
        "size_ratio": 1.0,
        "check": {"AP": 1.0, "boxes": 27},
        "static": {"AP": 0.0},
        "static_inside": False,
    }
    text = bench.table([failed, kept])
    assert "| a | ONX209: no |" in text
    assert "| b | AP | baseline kept |" in text
    assert "AP 1.000, 27 boxes | AP 0.000 | no |" in text
