import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.reconstruction.least_squares import Elimination, removal_order, ridge
from onnxopt.reconstruction.moments import Moments
from tests.reconstruction.test_moments import moments_of

TINY = 1e-9


def problem(seed: int, units: int, width: int, outputs: int = 3, rows: int = 400) -> tuple[Moments, np.ndarray]:
    """Return moments of correlated features, and the weights that made most of the targets."""
    rng = np.random.default_rng(seed)
    size = units * width
    x = (rng.standard_normal((rows, size)) @ rng.standard_normal((size, size))).astype(np.float32)
    weight = rng.standard_normal((outputs, size))
    y = x @ weight.T + rng.standard_normal((rows, outputs))
    return moments_of(x, y.astype(np.float32)), weight


def features_of(units: int, width: int) -> list[list[int]]:
    return np.arange(units * width).reshape(units, width).tolist()


def refit_error(moments: Moments, kept: np.ndarray) -> float:
    """Return the least mean squared error that the kept features allow."""
    xx, xy = moments.xx[np.ix_(kept, kept)], moments.xy[kept]
    return float(moments.yy.sum() - np.einsum("ko,ko->", xy, np.linalg.solve(xx, xy)))


def damped_error(moments: Moments, weight: np.ndarray, kept: np.ndarray, strength: float) -> float:
    """Return the least of error plus the ridge on the features that stay, by the equations for all of them."""
    damping = strength * np.trace(moments.xx) / len(moments.xx)
    gap = moments.xy[kept] - moments.xx[np.ix_(kept, kept)] @ weight[:, kept].T
    start = moments.error(np.where(kept, weight, 0.0))
    damped = moments.xx[np.ix_(kept, kept)] + damping * np.eye(int(kept.sum()))
    return start - float(np.einsum("ko,ko->", gap, np.linalg.solve(damped, gap)))


@given(st.integers(0, 999))
@settings(max_examples=30)
def test_a_weak_ridge_is_least_squares(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((300, 6)).astype(np.float32), rng.standard_normal((300, 2)).astype(np.float32)
    kept = np.array([True, False, True, True, False, True])
    found = ridge(moments_of(x, y), rng.standard_normal((2, 6)), kept, TINY)
    centred = x[:, kept] - x[:, kept].mean(0)
    expected = np.linalg.lstsq(centred.astype(float), (y - y.mean(0)).astype(float), rcond=None)[0].T
    assert np.allclose(found[:, kept], expected, atol=1e-5)
    assert not found[:, ~kept].any()


def test_a_strong_ridge_keeps_the_weights():
    moments, weight = problem(0, 4, 1)
    kept = np.array([True, True, False, True])
    assert np.allclose(ridge(moments, weight, kept, 1e9), np.where(kept, weight, 0.0), atol=1e-4)


def test_features_that_are_always_zero_keep_their_weights():
    moments = moments_of(np.zeros((50, 3), np.float32), np.zeros((50, 2), np.float32))
    weight = np.ones((2, 3))
    assert np.allclose(ridge(moments, weight, np.ones(3, bool), 1e-3), weight)


@given(st.integers(0, 999), st.integers(1, 3), st.sampled_from([TINY, 1e-3, 1e-1]))
@settings(max_examples=40)
def test_losses_and_removals_are_the_errors_of_a_refit(seed, width, strength):
    units = 5
    moments, weight = problem(seed, units, width)
    features = np.array(features_of(units, width))
    layer = Elimination.of(moments, weight, features_of(units, width), strength)

    def error(gone: list[int]) -> float:
        kept = np.ones(units * width, bool)
        kept[features[gone].reshape(-1)] = False
        return damped_error(moments, weight, kept, strength)

    scale, gone = float(moments.yy.sum()), list[int]()
    for step in ([2], [0, 4]):
        left = np.array([u for u in range(units) if u not in gone])
        expected = [max(error([*gone, u]) - error(gone), 0.0) for u in left]
        assert np.allclose(layer.losses(left), expected, atol=1e-4 * scale)
        before = error(gone)
        gone += step
        assert layer.remove(np.array(step)) == pytest.approx(max(error(gone) - before, 0.0), abs=1e-4 * scale)
    if strength == TINY:
        kept = np.isin(np.arange(units * width) // width, gone, invert=True)
        assert np.allclose(
            layer.solution[kept],
            np.linalg.lstsq(moments.xx[np.ix_(kept, kept)], moments.xy[kept], rcond=None)[0],
            atol=1e-3,
        )


def test_a_unit_that_is_always_zero_costs_nothing_whatever_its_weights():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 4)).astype(np.float32)
    x[:, 1] = 0
    weight = rng.standard_normal((2, 4))
    weight[:, 1] = 1000
    layer = Elimination.of(moments_of(x, (x @ weight.T).astype(np.float32)), weight, [[0], [1], [2], [3]], 1e-3)
    losses = layer.losses(np.arange(4))
    assert losses[1] <= 1e-6
    assert losses[[0, 2, 3]].min() > 1e-2
    assert removal_order([layer], [1.0])[0][0] == 1


def greedy_by_hand(
    problems: list[Moments], shares: list[float], units: int, width: int
) -> tuple[list[int], list[float]]:
    left, order, errors = list(range(units)), list[int](), list[float]()

    def total(some: list[int]) -> float:
        kept = np.isin(np.arange(units * width) // width, some)
        return sum(share * refit_error(m, kept) for m, share in zip(problems, shares, strict=True))

    whole = total(left)
    while len(left) > 1:
        best = min(left, key=lambda u: total([v for v in left if v != u]))
        left.remove(best)
        order.append(best)
        errors.append(total(left) - whole)
    return order, errors


@given(st.integers(0, 999), st.integers(1, 2), st.integers(1, 3))
@settings(max_examples=25)
def test_the_order_is_that_of_the_best_refit_at_each_step(seed, width, layers):
    units = 6
    some = [problem(seed + 1000 * i, units, width) for i in range(layers)]
    shares = [1.0 / float(m.yy.sum()) for m, _ in some]
    found = removal_order([Elimination.of(m, w, features_of(units, width), TINY) for m, w in some], shares)
    order, errors = greedy_by_hand([m for m, _ in some], shares, units, width)
    assert found[0].tolist() == order
    assert np.allclose(found[1], errors, rtol=1e-2, atol=1e-3)


@given(st.integers(0, 999), st.integers(2, 200), st.sampled_from([TINY, 1e-3, 1.0]))
@settings(max_examples=25)
def test_errors_never_fall_and_each_unit_but_one_goes_once(seed, units, strength):
    moments, weight = problem(seed, units, 1, rows=2 * units)
    order, errors = removal_order([Elimination.of(moments, weight, features_of(units, 1), strength)], [1.0])
    assert len(order) == len(errors) == len(set(order.tolist())) == units - 1
    assert (np.diff(errors, prepend=0.0) >= 0).all()


def test_elimination_is_no_worse_than_any_other_pair_by_much():
    """Greedy is no proof of the best choice; on independent features it is."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2000, 6)).astype(np.float32)
    weight = rng.standard_normal((3, 6))
    moments = moments_of(x, (x @ weight.T).astype(np.float32))
    order, _ = removal_order([Elimination.of(moments, weight, features_of(6, 1), TINY)], [1.0])
    pairs = {
        pair: refit_error(moments, np.isin(np.arange(6), pair, invert=True))
        for pair in itertools.combinations(range(6), 2)
    }
    assert tuple(sorted(order[:2].tolist())) == min(pairs, key=lambda pair: pairs[pair])
