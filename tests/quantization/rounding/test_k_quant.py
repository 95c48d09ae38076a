"""The search of scales: weighted errors beside rounding to nearest, and inputs that matter."""

import numpy as np
import pytest

from onnxopt.quantization.rounding.blockwise import Blocks, in_blocks, round_to_nearest
from onnxopt.quantization.rounding.k_quant import importances, k_quant
from tests.quantization.rounding.blocks import dequantized

SHAPES = [(16, 256), (5, 96), (7, 50), (3, 20)]


def weight_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, shape).astype(np.float32)


def errors(weight: np.ndarray, blocks: Blocks, inputs: np.ndarray | None) -> np.ndarray:
    """Return the weighted error of each block."""
    values = in_blocks(weight, blocks.integers.shape[-1]).astype(np.float64)
    steps = blocks.integers.astype(np.float64) - blocks.zero_point[..., None]
    lost = np.square(values - steps * blocks.scale[..., None].astype(np.float64))
    return np.asarray((importances(values, inputs) * lost).sum(-1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("with_inputs", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_block_has_a_larger_weighted_error_than_rounding_to_nearest(
    shape: tuple[int, int], bits: int, with_inputs: bool
) -> None:
    weight = weight_of(shape)
    weight[0] = 0
    inputs = np.random.default_rng(1).gamma(0.5, size=shape[1]) if with_inputs else None
    plain, found = round_to_nearest(weight, bits, 32), k_quant(weight, bits, 32, importance=inputs)
    before, after = errors(weight, plain, inputs), errors(weight, found, inputs)
    assert (after <= before * (1 + 1e-4)).all()
    assert after.sum() < 0.97 * before.sum()
    assert not dequantized(found)[0].any()


@pytest.mark.parametrize("bits", [2, 4])
def test_blocks_that_rounding_to_nearest_meets_exactly_stay(bits: int) -> None:
    # Every scale that is tried clips an end of this range, or makes neighbours one integer.
    weight = np.resize(np.arange(2**bits, dtype=np.float32) - 1, (3, 64)) * np.float32(0.5)
    found, plain = k_quant(weight, bits, 32), round_to_nearest(weight, bits, 32)
    np.testing.assert_array_equal(dequantized(plain), weight)
    np.testing.assert_array_equal(dequantized(found), weight)


def test_a_grid_of_positive_values_starts_at_zero() -> None:
    weight = np.abs(weight_of((8, 64))) + 1
    found = k_quant(weight, 4, 32)
    assert not found.zero_point.any()
    assert errors(weight, found, None).sum() < 0.95 * errors(weight, round_to_nearest(weight, 4, 32), None).sum()


def test_values_that_meet_large_inputs_are_the_closest() -> None:
    weight, inputs = weight_of((64, 32)), np.ones(32)
    inputs[:4] = 400
    blind, seeing = k_quant(weight, 3, 32), k_quant(weight, 3, 32, importance=inputs)
    lost = [np.square(dequantized(blocks) - weight)[:, :4].sum() for blocks in (blind, seeing)]
    assert lost[1] < 0.7 * lost[0]


@pytest.mark.filterwarnings("error")
def test_inputs_that_are_always_zero_leave_rounding_to_nearest() -> None:
    weight = weight_of((4, 64))
    inputs = np.zeros(64)
    found = k_quant(weight, 4, 32, importance=inputs)
    np.testing.assert_array_equal(dequantized(found), dequantized(round_to_nearest(weight, 4, 32)))
