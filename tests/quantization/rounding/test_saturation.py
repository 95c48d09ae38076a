"""Saturation of pairs: what 16 bits hold is exact, what they do not is clipped, and the bound is reached."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantization.rounding.saturation import reduced
from tests.quantization.rounding.saturating import HIGH, LOW, bound, multiply


def drawn(seed: int, largest: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (5, inputs)).astype(np.uint8)
    return x, rng.integers(-largest, largest + 1, (4, inputs)).astype(np.int8)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 33))
def test_seven_bits_never_saturate(seed: int, inputs: int) -> None:
    x, w = drawn(seed, 64, inputs)
    assert not bound(w).saturates
    np.testing.assert_array_equal(multiply(x, w), x.astype(int) @ w.T.astype(int))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 33), st.sampled_from([80, 127]))
def test_the_bound_is_reached_and_never_passed(seed: int, inputs: int, largest: int) -> None:
    _, w = drawn(seed, largest, inputs)
    found = bound(w)
    # The activations that reach it: the largest where the weight has the sign in question.
    for sign, extreme in ((1, found.high), (-1, found.low)):
        x = np.where(sign * w.astype(int) > 0, 255, 0)
        products = np.pad(x * w.astype(int), ((0, 0), (0, inputs % 2))).reshape(len(w), -1, 2).sum(-1)
        assert (products.max() if sign > 0 else products.min()) == extreme
    saturated = any(
        not np.array_equal(multiply(x.astype(np.uint8), w[None, i]), (x.astype(int) @ w[i].astype(int))[:, None])
        for i in range(len(w))
        for x in (np.where(w[i : i + 1] > 0, 255, 0), np.where(w[i : i + 1] < 0, 255, 0))
    )
    assert saturated == found.saturates


@pytest.mark.parametrize(("pair", "sums"), [((127, 127), HIGH), ((-128, -128), LOW), ((127, -128), -255)])
def test_pairs_are_clipped_to_16_bits(pair: tuple[int, int], sums: int) -> None:
    assert multiply(np.array([[255, 255]], np.uint8), np.array([pair], np.int8)).item() == sums


def test_large_weights_that_are_no_neighbours_do_not_saturate() -> None:
    apart, beside = np.array([[127, 0, 127, 0]], np.int8), np.array([[127, 127, 0, 0]], np.int8)
    assert not bound(apart).saturates
    assert bound(beside).saturates
    assert not bound(beside, largest=128).saturates


def test_convolutions_are_reduced_channels_last() -> None:
    weights = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    assert reduced(weights)[0, :3].tolist() == weights[0, :, 0, 0].tolist()
    assert reduced(weights).shape == (2, 12)


def test_channels_come_last_in_the_order_of_reduction() -> None:
    weights = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(reduced(weights), weights.transpose(0, 2, 3, 1).reshape(2, 60))
