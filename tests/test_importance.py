"""Scores of channels and weights, and what is chosen by them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from onnxopt import importance
from onnxopt.errors import UsageError

WEIGHT = np.array([[[3.0, -4.0]], [[0.0, 1.0]], [[-2.0, -2.0]]], np.float32)
"""Three channels along axis 0, two along axis 2."""

SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 7.0]), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (importance.channel_l1, [7, 1, 4]),
        (importance.channel_l2, [5, 1, np.sqrt(8)]),
        (importance.channel_linf, [4, 1, 2]),
    ],
)
def test_norms_of_channels(score, expected) -> None:
    np.testing.assert_allclose(score(WEIGHT, 0), expected)
    np.testing.assert_allclose(score(np.moveaxis(WEIGHT, 0, 2), 2), expected)
    np.testing.assert_allclose(score(WEIGHT.astype(bfloat16), -3), expected)


def test_the_geometric_median_is_the_least_important() -> None:
    rows = np.array([[0, 0], [10, 0], [0, 10], [-10, 0], [0, -10]], np.float32)
    scores = importance.geometric_median(rows, 0)
    assert scores.argmin() == 0
    np.testing.assert_allclose(scores[0], 40)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2).sum(axis=1)
    np.testing.assert_allclose(scores, distances)


def test_a_channel_like_the_others_goes_before_a_small_one() -> None:
    rows = np.array([[0.1, 0], [5, 5], [5, 5.1], [5.1, 5]], np.float32)
    assert importance.channel_l2(rows, 0).argmin() == 0
    assert importance.geometric_median(rows, 0).argmin() == 1


def test_batch_norm_scales_count_by_magnitude() -> None:
    np.testing.assert_array_equal(importance.batch_norm_scale(np.float32([-2, 0.5])), [2, 0.5])


@pytest.mark.parametrize("draw", [lambda s: importance.channel_random(WEIGHT, 0, s)])
def test_random_scores_follow_the_seed(draw) -> None:
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).all()
    assert draw(1).shape == (3,)


def test_random_weights_that_are_zero_go_first() -> None:
    scores = importance.weight_random(WEIGHT, 5)
    assert scores.shape == WEIGHT.shape
    assert (scores[WEIGHT == 0] < scores[WEIGHT != 0].min()).all()


def test_wanda_weighs_with_the_inputs() -> None:
    weight = np.float32([[1, -2], [3, 4]])
    np.testing.assert_array_equal(importance.wanda(weight, np.float32([10, 1]), 1), [[10, 2], [30, 4]])
    np.testing.assert_array_equal(importance.wanda(weight, np.float32([10, 1]), 0), [[10, 20], [3, 4]])


def test_lamp_is_as_published() -> None:
    np.testing.assert_allclose(importance.lamp(np.float32([[2, -1], [0, 3]])), [[4 / 13, 1 / 14], [0, 1]])
    assert not importance.lamp(np.zeros((2, 2), np.float32)).any()


@given(SCORES, st.sampled_from([1e-30, 1.0, 1e30]))
def test_lamp_keeps_the_order_and_ignores_the_scale(values: list[float], scale: float) -> None:
    weight = np.array(values)
    scores = importance.lamp(weight)
    for one, other in itertools.combinations(range(len(values)), 2):
        assert weight[one] <= weight[other] or scores[one] > scores[other]
    np.testing.assert_allclose(importance.lamp(weight * scale), scores, rtol=1e-9)
    assert scores.max() == (1 if weight.any() else 0)


@given(SCORES, st.data())
def test_the_lowest_are_as_many_as_requested_and_the_first_of_equals(values: list[float], data: st.DataObject) -> None:
    scores = np.array(values)
    count = data.draw(st.integers(0, len(values)))
    chosen = importance.lowest(scores, count)
    expected = sorted(range(len(values)), key=lambda i: (values[i], i))[:count]
    assert sorted(expected) == np.flatnonzero(chosen).tolist()


@given(SCORES, st.data())
def test_units_come_nearest_to_the_count(values: list[float], data: st.DataObject) -> None:
    sizes = np.array(data.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values))))
    count = data.draw(st.integers(0, int(sizes.sum())))
    chosen = importance.lowest_units(np.array(values), sizes, count)
    assert abs(int(sizes[chosen].sum()) - count) <= sizes.max() / 2
    if chosen.any() and not chosen.all():
        assert np.array(values)[chosen].max() <= np.array(values)[~chosen].min()


@given(st.integers(1, 4), st.integers(1, 19), st.integers(1, 6), st.data())
def test_n_of_m_holds_in_every_group(rows: int, length: int, group: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, group))
    scores = np.random.default_rng(length).integers(0, 4, (rows, length, 2)).astype(np.float64)
    removed = importance.lowest_n_of_m(scores, 1, keep, group)
    assert removed.shape == scores.shape
    for row, column, start in itertools.product(range(rows), range(2), range(0, length, group)):
        part = slice(start, start + group)
        gone, values = removed[row, part, column], scores[row, part, column]
        assert (~gone).sum() == min(keep, gone.size)
        if gone.any():
            assert values[gone].max() <= values[~gone].min()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 4))
def test_blocks_are_rectangles(shape: list[int], first: int, last: int) -> None:
    steps = {0: first, len(shape) - 1: last} if len(shape) > 1 else {0: first}
    ids = importance.block_ids(shape, steps)
    corners = {tuple(i // steps.get(a, 1) for a, i in enumerate(index)): ids[index] for index in np.ndindex(*shape)}
    assert ids.shape == tuple(shape)
    assert sorted(corners.values()) == list(range(len(corners)))
    for index in np.ndindex(*shape):
        assert ids[index] == corners[tuple(i // steps.get(a, 1) for a, i in enumerate(index))]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 30))
def test_gradual_ratios_rise_ever_more_slowly_to_the_end(one: float, other: float, rounds: int) -> None:
    start, end = sorted((one, other))
    ratios = importance.gradual_ratios(start, end, rounds)
    assert len(ratios) == rounds
    assert ratios[-1] == end
    steps = np.diff((start, *ratios))
    assert (steps >= -1e-12).all()
    assert (np.diff(steps) <= 1e-12).all()


def test_gradual_ratios_are_cubic() -> None:
    assert importance.gradual_ratios(0, 0.8, 2) == pytest.approx((0.7, 0.8))


@pytest.mark.parametrize(("start", "end", "rounds"), [(0.5, 0.4, 3), (-0.1, 0.5, 3), (0, 1.1, 3), (0, 0.5, 0)])
def test_a_schedule_that_makes_no_sense_is_refused(start: float, end: float, rounds: int) -> None:
    with pytest.raises(UsageError, match="ONX101"):
        importance.gradual_ratios(start, end, rounds)
