"""Giants among the values of a tensor, and outliers among samples."""

import numpy as np
import pytest

from onnxopt.quantization.calibration.spread import Spread, bulk_bound, octaves_of, quiet_interval


def bound(values: np.ndarray) -> float | None:
    values = values.astype(np.float32)
    return bulk_bound(octaves_of(values), float(np.abs(values).max()))


NORMAL = np.random.RandomState(0).standard_normal(10_000)


@pytest.mark.parametrize("giant", [1e5, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("count", [1, 6_000])
def test_a_few_giants_and_many_are_found(giant: float, count: int) -> None:
    values = NORMAL.copy()
    values[:count] = giant
    found = bound(values)
    assert found is not None
    assert np.abs(NORMAL[count:]).max() <= found <= 2 * np.abs(NORMAL).max() + 2


@pytest.mark.parametrize(
    "values",
    [
        NORMAL,
        np.zeros(100),
        np.maximum(NORMAL, 0),
        np.exp(NORMAL),
        np.repeat([0.0, -1e9], 50),
        np.full(9, 3.5),
        np.concatenate([NORMAL, np.full(100, 1e-9)]),
        np.concatenate([np.full(20, 1e-3), 1.5 + np.abs(NORMAL[:80])]),
    ],
    ids=["normal", "zeros", "relu", "lognormal", "mask", "one value", "noise near zero", "a minority near zero"],
)
def test_ordinary_values_have_none(values: np.ndarray) -> None:
    assert bound(values) is None


def test_a_long_tail_without_a_gap_is_found() -> None:
    tail = 2.0 ** np.arange(2, 14)
    assert bound(np.concatenate([NORMAL, tail])) == 4


def test_giants_that_were_not_looked_at_count_by_their_magnitude() -> None:
    assert bulk_bound(octaves_of(NORMAL.astype(np.float32)), 1e5) == 4


def spread(*sizes: float) -> Spread:
    highs = np.array(sizes)
    return Spread(np.zeros(256, np.int64), -highs, highs)


def test_a_loud_sample_is_left_out() -> None:
    assert quiet_interval(spread(1, 2, 900, 1.5, 1)) == (-2, 2)


@pytest.mark.parametrize("sizes", [(1, 2, 3, 4, 5), (1, 1, 900), (0, 0, 0, 0, 9)], ids=str)
def test_samples_alike_few_or_empty_have_no_outlier(sizes: tuple[float, ...]) -> None:
    assert quiet_interval(spread(*sizes)) is None


def test_without_any_counted_value_there_are_no_giants() -> None:
    assert bulk_bound(np.zeros(256, np.int64), 5.0) is None


def test_giants_are_more_than_seven_octaves_above_most_values() -> None:
    assert bound(np.append(np.ones(100), 2.0**8)) == 2
    assert bound(np.append(np.ones(100), 2.0**7)) is None
