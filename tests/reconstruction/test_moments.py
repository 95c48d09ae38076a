import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.reconstruction import moments
from onnxopt.reconstruction.moments import Accumulator, Moments


def moments_of(x: np.ndarray, y: np.ndarray, batches: int = 1) -> Moments:
    sums = Accumulator(x.shape[1], y.shape[1])
    for one, other in zip(np.array_split(x, batches), np.array_split(y, batches), strict=True):
        sums.add(one, other)
    return sums.moments()


def correlated(seed: int, rows: int = 200, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)) @ rng.standard_normal((5, 5)) + mean
    y = x @ rng.standard_normal((5, 3)) + rng.standard_normal((rows, 3)) + mean
    return x.astype(np.float32), y.astype(np.float32)


@given(st.integers(0, 999), st.integers(1, 40))
def test_moments_are_those_of_all_rows_whatever_the_batches(seed, batches):
    x, y = correlated(seed)
    found, both = moments_of(x, y, batches), np.cov(x.T, y.T, bias=True)
    size = np.abs(both).max()
    assert found.count == len(x)
    assert np.allclose(found.mean_x, x.mean(0, dtype=float), atol=1e-5)
    assert np.allclose(found.mean_y, y.mean(0, dtype=float), atol=1e-5)
    assert np.allclose(found.xx, both[:5, :5], atol=1e-5 * size)
    assert np.allclose(found.xy, both[:5, 5:], atol=1e-5 * size)
    assert np.allclose(found.yy, np.diag(both[5:, 5:]), atol=1e-5 * size)


@pytest.mark.parametrize("batches", [1, 7])
def test_large_means_take_no_digits(batches):
    x, y = correlated(3, mean=1000.0)
    exact = np.cov(x.T.astype(float), bias=True)
    assert np.allclose(moments_of(x, y, batches).xx, exact, atol=1e-4 * np.abs(exact).max())
    # What the shift is for: sums of plain squares in single precision do not stand this.
    plain = x.T @ x / np.float32(len(x)) - np.outer(x.mean(0), x.mean(0))
    assert not np.allclose(plain, exact, atol=1e-4 * np.abs(exact).max())


@given(st.integers(0, 999), st.booleans())
def test_error_is_the_mean_squared_error(seed, with_offset):
    x, y = correlated(seed)
    rng = np.random.default_rng(seed + 1)
    weight, offset = rng.standard_normal((3, 5)), rng.standard_normal(3)
    made = x @ weight.T
    offset = offset if with_offset else (y - made).mean(0)
    real = np.square(made + offset - y).sum(1).mean()
    assert moments_of(x, y, 4).error(weight, offset if with_offset else None) == pytest.approx(real, rel=1e-4)


def test_rows_that_are_not_finite_and_empty_batches_tell_nothing():
    x, y = correlated(0)
    clean = moments_of(x, y)
    spoilt_x, spoilt_y = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2]])
    spoilt_x[200, 1], spoilt_y[201, 0] = np.inf, np.nan
    sums = Accumulator(5, 3)
    sums.add(x[:0], y[:0])
    sums.add(spoilt_x, spoilt_y)
    found = sums.moments()
    assert found.count == clean.count
    assert np.array_equal(found.xx, clean.xx)
    assert np.array_equal(found.xy, clean.xy)


def test_nothing_seen_is_nothing():
    found = Accumulator(2, 1).moments()
    assert found.count == 0
    assert not found.xx.any()
    assert not found.mean_x.any()


def test_rows_whose_products_overflow_are_left_out():
    x, y = np.eye(4), np.ones((4, 2))
    x[0, 0], x[1, 1], y[2, 0] = 1e30, -3e38, 1e300
    accumulator = Accumulator(4, 2)
    with np.errstate(all="raise"):
        accumulator.add(x, y)
    found = accumulator.moments()
    assert (found.count, found.missing) == (1, 3)
    assert np.isfinite(found.xx).all()
    assert np.isfinite(found.yy).all()


def test_rows_that_come_one_by_one_are_multiplied_together():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2500, 5)), rng.standard_normal((2500, 3))
    few, whole = Accumulator(5, 3), moments_of(x, y)
    for start in range(0, 2500, 3):
        few.add(x[start : start + 3], y[start : start + 3])
        assert sum(len(rows) for rows, _ in few._waiting) < moments._TOGETHER
    found = few.moments()
    assert found.count == whole.count == 2500
    for name in ("mean_x", "mean_y", "xx", "xy", "yy"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
    few.add(x[:3], y[:3])
    assert few.moments().count == 2503
