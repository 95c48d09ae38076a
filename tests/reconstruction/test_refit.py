"""The last factor is fitted again only where rows that took no part in the fit are closer to their targets."""

import numpy as np

from onnxopt.reconstruction.low_rank.fit import refitted
from tests.reconstruction.test_moments import moments_of

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((400, 6))
THERE, BETTER = RNG.standard_normal((2, 3, 6))


def test_a_fit_that_rows_held_out_confirm_replaces_the_weights() -> None:
    fit, held = (moments_of(rows, rows @ BETTER.T) for rows in (FEATURES[:200], FEATURES[200:]))
    assert np.allclose(refitted(fit, held, THERE), BETTER, atol=1e-2)


def test_a_fit_that_rows_held_out_contradict_is_dropped() -> None:
    fit = moments_of(FEATURES[:200], FEATURES[:200] @ BETTER.T)
    held = moments_of(FEATURES[200:], FEATURES[200:] @ THERE.T + 0.1 * RNG.standard_normal((200, 3)))
    assert refitted(fit, held, THERE) is THERE


def test_a_fit_that_is_as_far_from_rows_held_out_as_the_weights_is_dropped() -> None:
    nothing = np.zeros((200, 6))
    fit, held = (moments_of(nothing, nothing @ BETTER.T) for _ in range(2))
    assert refitted(fit, held, THERE) is THERE


def test_without_rows_held_out_nothing_is_fitted() -> None:
    fit = moments_of(FEATURES, FEATURES @ BETTER.T)
    assert refitted(fit, moments_of(FEATURES[:0], FEATURES[:0] @ BETTER.T), THERE) is THERE
