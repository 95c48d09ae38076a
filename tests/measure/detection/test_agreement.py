"""A candidate is judged by the boxes that the baseline finds."""

from collections.abc import Callable

import numpy as np
import pytest
import scenes

from onnxopt.errors import DataError
from onnxopt.measure.accuracy import drop, evaluation_of
from onnxopt.measure.statistics import Drop
from onnxopt.measure.tasks.detection.agreement import ALLOWED_FALL, DetectionAgreement

COUNT = 40
POINT = 0.01
FOUND = scenes.scenes(COUNT)
BEFORE = scenes.yolo(FOUND, objectness=False)
JUDGED = DetectionAgreement(scenes.LAYOUT)


def lost(after: np.ndarray, before: np.ndarray = BEFORE) -> Drop:
    """Return the drop of a candidate with the table `after`, `(n, rows, attributes)`."""
    feeds = {"image": np.zeros((len(before), 3, scenes.HEIGHT, scenes.WIDTH), np.float32)}
    one, other = ({"output0": table.swapaxes(1, 2)} for table in (before, after))
    rows = [JUDGED.compare(one, outputs, len(before), feeds) for outputs in (one, other)]
    baseline, candidate = (evaluation_of(JUDGED, found, 0) for found in rows)
    assert baseline.value == 1
    return drop(baseline, candidate)


def changed(change: Callable[[np.ndarray], None], table: np.ndarray = BEFORE) -> np.ndarray:
    after = table.copy()
    change(after)
    return after


def test_the_baseline_agrees_with_itself() -> None:
    found = lost(BEFORE)
    assert found.value == 0
    assert found.of_equal_outputs().probability_within(POINT) > 0.95


BOXES = np.array([len(scene.boxes) for scene in FOUND], dtype=float)
EFFECTIVE = round(BOXES.sum() ** 2 / (BOXES**2).sum())


def test_images_that_lost_nothing_prove_as_much_as_answers_that_are_all_the_same() -> None:
    """An image of a kind that was not seen may lose all its boxes, and images with many of them count more."""
    found = lost(BEFORE)
    assert found.counted == EFFECTIVE <= COUNT
    assert found.probability_within(POINT) <= 1 - 0.99**EFFECTIVE
    assert found.probability_within(0.9) > 0.95


def test_images_without_boxes_prove_nothing() -> None:
    empty = np.zeros_like(BEFORE)
    found = lost(np.concatenate([BEFORE, empty, empty]), np.concatenate([BEFORE, empty, empty]))
    assert (found.n, found.counted) == (3 * COUNT, EFFECTIVE)
    assert found.probability_within(POINT) <= 1 - 0.99**EFFECTIVE
    assert found.of_equal_outputs().probability_within(POINT) == pytest.approx((3 * COUNT + 1) / (3 * COUNT + 2))


@pytest.mark.parametrize("column", range(4))
def test_a_box_column_scaled_by_half_is_never_inside_the_budget(column: int) -> None:
    found = lost(changed(lambda table: table[..., column].__imul__(1.5)))
    assert not found.within(POINT)
    assert found.probability_within(POINT) < 0.05


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6)])
def test_two_columns_swapped_are_never_inside_the_budget(one: int, other: int) -> None:
    def swap(table: np.ndarray) -> None:
        table[..., [one, other]] = table[..., [other, one]]

    assert lost(changed(swap)).probability_within(POINT) < 0.05


@pytest.mark.parametrize("c", range(scenes.CLASSES))
def test_one_class_without_scores_is_never_inside_the_budget(c: int) -> None:
    found = lost(changed(lambda table: table[..., 4 + c].fill(0)))
    assert found.value > 1 / scenes.CLASSES - POINT
    assert found.probability_within(POINT) < 0.05


def test_an_image_whose_boxes_are_all_lost_counts() -> None:
    assert lost(changed(lambda table: table[7, :, 4:].fill(0))).value > POINT


def test_scores_that_fall_below_the_users_threshold_are_lost_though_their_order_is_kept() -> None:
    low = changed(lambda table: table[..., 4:].__imul__(0.3))
    assert lost(low).value > 0.4


def test_a_score_that_falls_a_little_below_the_threshold_is_not_lost() -> None:
    at_threshold = changed(lambda table: np.copyto(table[..., 4:], 0.26, where=table[..., 4:] > 0.3))
    assert lost(changed(lambda table: table[..., 4:].__imul__(0.9), at_threshold), at_threshold).value == 0
    fallen = changed(lambda table: table[..., 4:].__imul__(0.95 * ALLOWED_FALL), at_threshold)
    assert lost(fallen, at_threshold).value == 1


def test_boxes_of_a_class_that_the_baseline_never_finds_count() -> None:
    known = changed(lambda table: table[..., 6].fill(0))
    invented = changed(lambda table: table[::4, 100, 6].fill(0.9), known)
    assert lost(invented, known).value > POINT
    assert lost(known, known).value == 0


def test_boxes_where_the_baseline_finds_nothing_count() -> None:
    invented = changed(lambda table: table[:, 60:80, 4].fill(0.99))
    assert lost(invented).value > POINT


def test_a_candidate_of_nan_finds_nothing() -> None:
    assert lost(np.full_like(BEFORE, np.nan)).value == 1


def test_without_any_box_of_the_baseline_there_is_one_clear_error() -> None:
    empty = changed(lambda table: table[..., 4:].fill(0))
    with pytest.raises(DataError, match=r"ONX209.*finds no box.*--score-threshold"):
        lost(empty, empty)


def test_samples_are_images_however_many_boxes_are_in_them() -> None:
    outputs = {"output0": BEFORE.swapaxes(1, 2)}
    assert JUDGED.compare(outputs, outputs, COUNT, {}).shape == (COUNT, 1)


def test_the_interval_is_drawn_over_images() -> None:
    half = lost(changed(lambda table: table[: COUNT // 2, :, 4:].fill(0)))
    assert half.n == COUNT
    assert 0.2 < half.interval.low < half.value < half.interval.high < 0.8
