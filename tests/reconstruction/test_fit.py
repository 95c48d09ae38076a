import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.reconstruction.fit import fitted
from tests.reconstruction.test_moments import moments_of

ALL = np.ones(3, bool)
METHODS = ("ls", "affine", "bias", "none")


def layer(seed: int, rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, targets, weights and bias; two of six features go."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal((rows, 6)) @ rng.standard_normal((6, 6)) + 0.5, 0).astype(np.float32)
    weight, bias = rng.standard_normal((3, 6)), rng.standard_normal(3)
    return x, (x @ weight.T + bias).astype(np.float32), weight, bias


KEPT = np.array([True, True, False, True, False, True])


def error(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    return float(np.square(x @ weight.T + bias - y).sum(1).mean() / y.var(0).sum())


@given(st.integers(0, 9999), st.sampled_from(METHODS), st.integers(3, 60))
def test_a_fit_is_never_worse_on_held_out_samples_than_none(seed, method, rows):
    """Held-out samples are other than those of the fit in every way."""
    x, y, weight, bias = layer(seed, rows)
    other_x, other_y, _, _ = layer(seed + 1, rows)
    fit = fitted(moments_of(x, y), moments_of(other_x, other_y), weight, bias, kept=KEPT, outputs=ALL, method=method)
    lost = np.where(KEPT, weight, 0.0)
    before = error(other_x, other_y, lost, bias)
    after = error(other_x, other_y, fit.weight, bias + fit.offset)
    assert after <= before * (1 + 1e-4)
    assert fit.helped == (fit.after < fit.before)
    assert (fit.before, fit.after) == (pytest.approx(before, rel=1e-3), pytest.approx(after, rel=1e-3, abs=1e-6))
    assert not fit.weight[:, ~KEPT].any()
    if not fit.helped:
        assert np.array_equal(fit.weight, lost)
        assert not fit.offset.any()


@given(st.integers(0, 9999))
def test_more_freedom_leaves_less_error(seed):
    x, y, weight, bias = layer(seed)
    moments = moments_of(x, y)
    none, least, ls = (
        fitted(moments, moments, weight, bias, kept=KEPT, outputs=ALL, method=m).after for m in ("none", "bias", "ls")
    )
    assert ls < least < none


@given(st.integers(0, 9999))
def test_bias_restores_the_mean_and_affine_the_variance_too(seed):
    x, y, weight, bias = layer(seed)
    moments = moments_of(x, y)
    for method in ("bias", "affine", "ls"):
        fit = fitted(moments, moments, weight, bias, kept=KEPT, outputs=ALL, method=method)
        if fit.helped:
            made = x @ fit.weight.T + bias + fit.offset
            assert np.allclose(made.mean(0), y.mean(0), atol=1e-3)
            if method == "affine":
                assert np.allclose(made.var(0), y.var(0), rtol=1e-2)
    assert fitted(moments, moments, weight, bias, kept=KEPT, outputs=ALL, method="bias").helped


def test_a_layer_is_left_alone_where_held_out_samples_speak_against_it():
    x, y, weight, bias = layer(0)
    # What was seen of the targets has nothing to do with what is held out.
    misleading = moments_of(x, np.random.default_rng(1).standard_normal(y.shape).astype(np.float32) + 50)
    for method in ("ls", "affine", "bias"):
        fit = fitted(misleading, moments_of(x, y), weight, bias, kept=KEPT, outputs=ALL, method=method)
        assert not fit.helped
        assert np.array_equal(fit.weight, np.where(KEPT, weight, 0.0))
        assert fit.after == fit.before
        assert fitted(misleading, misleading, weight, bias, kept=KEPT, outputs=ALL, method=method).helped


def test_without_held_out_samples_the_fit_judges_itself():
    x, y, weight, bias = layer(0)
    seen, none = moments_of(x, y), moments_of(x[:0], y[:0])
    fit = fitted(seen, none, weight, bias, kept=KEPT, outputs=ALL, method="ls")
    assert fit.helped
    assert fit.after == fitted(seen, seen, weight, bias, kept=KEPT, outputs=ALL, method="ls").after


def test_outputs_that_are_not_used_do_not_decide():
    x, y, weight, bias = layer(0)
    held = y.copy()
    held[:, 2] = 1e4 * np.random.default_rng(1).standard_normal(len(y))
    fits = [
        fitted(
            moments_of(x, y),
            moments_of(x, h),
            weight,
            bias,
            kept=KEPT,
            outputs=np.array([True, True, False]),
            method="ls",
        )
        for h in (y, held)
    ]
    assert fits[0].helped
    assert (fits[0].before, fits[0].after) == (fits[1].before, fits[1].after)


def test_the_ridge_that_is_best_on_held_out_samples_is_taken():
    """With as many features as rows, a weak ridge follows the noise."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 40))
    kept = np.arange(40) > 3

    def rows(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((count, 40)).astype(np.float32)
        return x, (x @ weight.T + noise * rng.standard_normal((count, 3))).astype(np.float32)

    few, many = moments_of(*rows(42, 8.0)), moments_of(*rows(5000, 0.0))
    fit = fitted(few, many, weight, np.zeros(3), kept=kept, outputs=ALL, method="ls")
    alone = fitted(few, few, weight, np.zeros(3), kept=kept, outputs=ALL, method="ls")
    assert many.error(fit.weight) < many.error(alone.weight)
    assert many.error(fit.weight, fit.offset) <= many.error(np.where(kept, weight, 0.0), np.zeros(3))


def test_a_layer_that_lost_nothing_stays_as_it_is():
    x, y, weight, bias = layer(0)
    x[:, ~KEPT] = 0
    y = (x @ weight.T + bias).astype(np.float32)
    fit = fitted(moments_of(x, y), moments_of(x[::5], y[::5]), weight, bias, kept=KEPT, outputs=ALL, method="ls")
    assert not fit.helped
    assert np.array_equal(fit.weight, np.where(KEPT, weight, 0.0))
