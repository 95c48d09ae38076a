"""Rounding that makes up for itself is never worse on the inputs it was made for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.quantization.rounding.blockwise import round_to_nearest, shrunk
from onnxopt.quantization.rounding.gptq import gptq
from tests import numerics
from tests.quantization.rounding.blocks import dequantized


def case(seed: int, outputs: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight and inputs that go together."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(4, (outputs, features)).astype(np.float32)
    mixed = rng.standard_normal((400, features)) @ rng.standard_normal((features, features))
    return weight, mixed


def error(weight: np.ndarray, other: np.ndarray, x: np.ndarray) -> float:
    return float(np.square(x @ (other - weight).T).sum())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("features", [32, 100, 256])
def test_the_error_on_the_inputs_is_smaller(bits: int, block: int, features: int) -> None:
    weight, x = case(0, 24, features)
    made = gptq(weight, x.T @ x, bits, block)
    plain = round_to_nearest(weight, bits, block)
    assert made.integers.shape == plain.integers.shape
    assert error(weight, dequantized(made), x) < 0.8 * error(weight, dequantized(plain), x)


def test_with_inputs_that_have_nothing_in_common_it_is_plain_rounding() -> None:
    weight, _ = case(1, 8, 64)
    made, plain = gptq(weight, np.eye(64), 4, 32), round_to_nearest(weight, 4, 32)
    np.testing.assert_array_equal(made.integers, plain.integers)
    np.testing.assert_array_equal(made.scale, plain.scale)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weight, x = case(2, 8, 64)
    x[:, :40] = 0
    made = gptq(weight, x.T @ x, 8, 32)
    assert np.isfinite(dequantized(made)).all()
    dead = dequantized(round_to_nearest(weight, 8, 32))[:, :32]
    np.testing.assert_allclose(dequantized(made)[:, :32], dead, rtol=0, atol=numerics.EXACT_RELATIVE)


@given(st.integers(0, 50), st.sampled_from([4, 8]), st.sampled_from([32, 64]))
def test_fitted_scales_lose_no_more_where_outliers_count_little(seed: int, bits: int, block: int) -> None:
    weight, _ = case(seed, 6, 80)
    plain, fitted = round_to_nearest(weight, bits, block), shrunk(weight, bits, block)
    lost = [np.abs(dequantized(blocks) - weight) ** 0.7 for blocks in (plain, fitted)]
    assert lost[1].sum() <= lost[0].sum() * (1 + numerics.EXACT_RELATIVE)
    assert fitted.zero_point.max() < 2**bits
