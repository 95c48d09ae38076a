"""Palettes of k-means."""

import numpy as np
import pytest

from onnxopt.reconstruction.palette import COLOURS, palette_of


def relative(array, palette):
    return np.linalg.norm(array.reshape(-1) - palette.array()) / np.linalg.norm(array)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_few_values_are_kept_exactly(group):
    values = np.random.default_rng(0).standard_normal((COLOURS, group)).astype(np.float32)
    array = values[np.random.default_rng(1).integers(0, COLOURS, 5000)].reshape(-1, 20)
    palette = palette_of(array, group)
    assert np.array_equal(palette.array(), array.reshape(-1))
    assert palette.codes.dtype == np.uint8


def test_fewer_bits_lose_more_and_none_more_than_evenly_spaced_values():
    array = np.random.default_rng(2).standard_normal((64, 96)).astype(np.float32)
    lost = [relative(array, palette_of(array, group)) for group in (1, 2, 4)]
    assert lost[0] < lost[1] < lost[2]
    step = (array.max() - array.min()) / 255
    assert lost[0] <= np.linalg.norm(np.round(array / step) * step - array) / np.linalg.norm(array)
    # Pairs are never worse than both values of a pair rounded to 16 evenly spaced ones.
    coarse = (array.max() - array.min()) / 15
    assert lost[1] <= np.linalg.norm(np.round(array / coarse) * coarse - array) / np.linalg.norm(array)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_zero_stays_zero(group):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4000, group)).astype(np.float32) * (rng.random((4000, 1)) < 0.4)
    palette = palette_of(rows, group)
    assert np.array_equal(palette.array().reshape(rows.shape)[~rows.any(1)], np.zeros_like(rows[~rows.any(1)]))


def test_the_same_seed_gives_the_same_codes():
    array = np.random.default_rng(4).standard_normal((300, 400)).astype(np.float32)
    one, other = palette_of(array, 2, 7), palette_of(array, 2, 7)
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(one.colours, other.colours)
